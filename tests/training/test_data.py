"""How data of every kind becomes the training model's inputs."""

import keras
import numpy as np
import pandas as pd
import pytest
from nets import BATCH, LOSSES, ROWS, arrays, fixed, numbers, sample_weights, two_heads
from sources import SOURCES, STEPS

import lossweigh as lw

pytestmark = pytest.mark.compiled

X, Y = arrays()
WEIGHTS = sample_weights()
HELD_OUT = (*arrays(seed=5), sample_weights(seed=6))
CLASS_WEIGHT = {"alpha": {0: 0.5, 2: 3.0}}  # classes 1 and 3 weigh 1
OF_CLASSES = np.array([0.5, 1.0, 3.0, 1.0], "float32")[Y["alpha"]]


class Trainer:
    """One compiled model, put back to where it began before each fit."""

    def __init__(self):
        keras.utils.set_random_seed(0)
        self.model = two_heads()
        self.training = fixed(self.model, metrics={"zeta": ["mae"]})
        self.initial = self.model.get_weights()

    def fit(self, *data, **arguments):
        """The logs of an epoch, and the trained numbers."""
        self.model.set_weights(self.initial)
        arguments = {"batch_size": ROWS, "shuffle": False, "verbose": 0, **arguments}
        history = self.training.fit(*data, **arguments).history
        logs = {key: values[-1] for key, values in history.items()}
        return logs, self.model.get_weights()

    def evaluate(self, x, y=None, sample_weight=None, **arguments):
        self.model.set_weights(self.initial)
        arguments = {"batch_size": ROWS, "verbose": 0, **arguments}
        logs = self.training.evaluate(
            x, y, sample_weight=sample_weight, return_dict=True, **arguments
        )
        return numbers(logs)


@pytest.fixture(scope="module")
def trainer():
    return Trainer()


def assert_same(one, other):
    """Two results of `Trainer.fit` agree."""
    assert numbers(one[0]) == pytest.approx(numbers(other[0]), abs=1e-6)
    for mine, its in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)


@pytest.mark.smoke
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_what_arrays_give(trainer, source, weights):
    data = (X, Y) if weights is None else (X, Y, weights)
    held_out = HELD_OUT[: len(data)]
    expected = trainer.fit(
        *(X, Y), sample_weight=weights, validation_data=held_out, batch_size=BATCH
    )
    assert {f"val_{name}_loss" for name in LOSSES} < expected[0].keys()
    result = trainer.fit(
        SOURCES[source](data),
        validation_data=SOURCES[source](held_out),
        batch_size=None,
        steps_per_epoch=STEPS.get(source),
        validation_steps=STEPS.get(source),
    )
    assert_same(result, expected)
    of_source = trainer.evaluate(
        SOURCES[source](held_out), batch_size=None, steps=STEPS.get(source)
    )
    assert of_source == pytest.approx(trainer.evaluate(*held_out, batch_size=BATCH))


@pytest.fixture(scope="module")
def with_explicit_weights(trainer):
    """An epoch in which the sample weights hold the class weights."""
    weights = {**WEIGHTS, "alpha": WEIGHTS["alpha"] * OF_CLASSES}
    result = trainer.fit(X, Y, sample_weight=weights, batch_size=BATCH)
    unlike = trainer.fit(X, Y, sample_weight=WEIGHTS, batch_size=BATCH)
    assert abs(result[0]["alpha_loss"] - unlike[0]["alpha_loss"]) > 1e-2
    return result


@pytest.mark.parametrize("source", ["arrays", *SOURCES])
def test_class_weights_multiply_sample_weights(trainer, with_explicit_weights, source):
    if source == "arrays":
        arguments = {"sample_weight": WEIGHTS, "batch_size": BATCH}
        data = (X, Y)
    else:
        arguments = {"batch_size": None, "steps_per_epoch": STEPS.get(source)}
        data = (SOURCES[source]((X, Y, WEIGHTS)),)
    result = trainer.fit(*data, class_weight=CLASS_WEIGHT, **arguments)
    assert_same(result, with_explicit_weights)


def test_class_weights_of_the_last_fit_are_in_force(trainer):
    plain = trainer.fit(X, Y)
    explicit = trainer.fit(X, Y, sample_weight={"alpha": OF_CLASSES})
    other = trainer.fit(X, Y, class_weight={"alpha": {1: 4.0}})
    assert abs(other[0]["alpha_loss"] - explicit[0]["alpha_loss"]) > 1e-2
    assert_same(trainer.fit(X, Y, class_weight=CLASS_WEIGHT), explicit)
    assert_same(trainer.fit(X, Y, class_weight={}), plain)


def test_class_weights_are_for_training_alone(trainer):
    held_out = HELD_OUT[:2]
    logs, _ = trainer.fit(X, Y, class_weight=CLASS_WEIGHT, validation_data=held_out)
    after = trainer.training.evaluate(*held_out, ROWS, verbose=0, return_dict=True)
    prediction = trainer.model.predict(held_out[0], verbose=0)["alpha"]
    expected = -np.log(prediction[np.arange(ROWS), held_out[1]["alpha"]]).mean()
    assert logs["val_alpha_loss"] == pytest.approx(expected, abs=1e-5)
    assert float(after["alpha_loss"]) == pytest.approx(expected, abs=1e-5)


def test_class_weights_on_a_batch(trainer):
    def step(**arguments):
        trainer.model.set_weights(trainer.initial)
        trainer.training.reset_metrics()
        return numbers(
            trainer.training.train_on_batch(X, Y, return_dict=True, **arguments)
        )

    product = {**WEIGHTS, "alpha": WEIGHTS["alpha"] * OF_CLASSES}
    result = step(sample_weight=WEIGHTS, class_weight=CLASS_WEIGHT)
    assert result == pytest.approx(step(sample_weight=product))
    assert result["alpha_loss"] != pytest.approx(step()["alpha_loss"], abs=1e-3)
    # `[x, *targets]` with a dummy takes them too.
    trainer.model.set_weights(trainer.initial)
    trainer.training.reset_metrics()
    result = trainer.training.train_on_batch(
        [X, Y["zeta"], Y["alpha"]], class_weight=CLASS_WEIGHT, return_dict=True
    )
    assert numbers(result) == pytest.approx(step(sample_weight={"alpha": OF_CLASSES}))


def numpy_losses(prediction, zeta=1.0, alpha=1.0):
    """Each branch's loss as NumPy finds it; a weight a sample or an element."""
    squares = (prediction["zeta"] - Y["zeta"]) ** 2
    if np.ndim(zeta) == 1:
        zeta = zeta[:, None]
    logs = -np.log(prediction["alpha"][np.arange(len(X)), Y["alpha"]])
    return {
        "zeta_loss": (squares * zeta).mean(),
        "alpha_loss": (logs * np.ravel(alpha)).mean(),
    }


FORMS_OF_Y = {
    "dict in another order": {"alpha": Y["alpha"], "zeta": Y["zeta"]},
    "list": [Y["zeta"], Y["alpha"]],
    "tuple": (Y["zeta"], Y["alpha"]),
    "lists of numbers": {name: target.tolist() for name, target in Y.items()},
    "float64": {name: target.astype("float64") for name, target in Y.items()},
    "(batch, 1)": {"zeta": Y["zeta"], "alpha": Y["alpha"][:, None]},
    "tensors": {name: keras.ops.convert_to_tensor(Y[name]) for name in Y},
    "pandas": {"zeta": pd.DataFrame(Y["zeta"]), "alpha": pd.Series(Y["alpha"])},
}


@pytest.mark.smoke
@pytest.mark.parametrize("form", FORMS_OF_Y)
def test_forms_of_y(trainer, form):
    logs = trainer.evaluate(X, FORMS_OF_Y[form])
    expected = numpy_losses(trainer.model.predict(X, verbose=0))
    assert logs == pytest.approx(logs | expected, abs=1e-5)


def test_columns_of_a_frame_are_targets():
    x = keras.Input((4,))
    model = keras.Model(x, [keras.layers.Dense(1, name=n)(x) for n in ("b", "a")])
    training = lw.build_training_model(model, ["mse", "mae"])
    training.compile("sgd")
    rows, y = X[:, :4], {"a": np.arange(10.0), "b": np.ones(10)}
    frame = pd.DataFrame(y, index=range(9, -1, -1))  # the index isn't looked at
    expected = training.evaluate(rows, y, verbose=0)
    assert training.evaluate(rows, frame, verbose=0) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"`y` may only have the names .*'c'"):
        training.evaluate(rows, frame.assign(c=0.0), verbose=0)
    # Of a single target it is an array, as in Keras.
    single = lw.build_training_model(
        keras.Model(x, keras.layers.Dense(2, name="both")(x)), "mse"
    )
    single.compile("sgd")
    assert single.evaluate(rows, frame, verbose=0) == pytest.approx(
        single.evaluate(rows, frame.to_numpy(), verbose=0)
    )


W = WEIGHTS["zeta"]
PER_ELEMENT = np.random.default_rng(7).integers(0, 3, (10, 3)).astype("float32")
FORMS_OF_WEIGHTS = {
    "one array": (W, {"zeta": W, "alpha": W}),
    "one array (batch, 1)": (W[:, None], {"zeta": W, "alpha": W}),
    "dict": (WEIGHTS, WEIGHTS),
    "partial dict": ({"alpha": W}, {"alpha": W}),
    "dict with None": ({"alpha": W, "zeta": None}, {"alpha": W}),
    "list": ([WEIGHTS["zeta"], WEIGHTS["alpha"]], WEIGHTS),
    "(batch, 1)": ({"zeta": W[:, None]}, {"zeta": W}),
    "an element": ({"zeta": PER_ELEMENT}, {"zeta": PER_ELEMENT}),
    "integers": ({"zeta": (2 * W).astype("int64")}, {"zeta": 2 * W}),
    "list of numbers": ({"zeta": W.tolist()}, {"zeta": W}),
    "pandas": ({"zeta": pd.Series(W)}, {"zeta": W}),
}


@pytest.mark.parametrize("form", FORMS_OF_WEIGHTS)
def test_forms_of_sample_weights(trainer, form):
    given, meant = FORMS_OF_WEIGHTS[form]
    logs = trainer.evaluate(X, Y, sample_weight=given)
    expected = numpy_losses(trainer.model.predict(X, verbose=0), **meant)
    assert logs == pytest.approx(logs | expected, abs=1e-5)


def test_batches_and_predictions(trainer):
    expected = trainer.evaluate(X, Y, sample_weight=WEIGHTS, batch_size=len(X))
    logs = trainer.training.test_on_batch(X, Y, WEIGHTS, return_dict=True)
    assert numbers(logs) == pytest.approx(expected)
    for predict in (trainer.training.predict_on_batch, trainer.model.predict_on_batch):
        for name, values in predict(X).items():
            one = keras.ops.convert_to_numpy(values)
            np.testing.assert_allclose(
                one, trainer.training.predict(X, verbose=0)[name], atol=1e-6
            )


def test_a_validation_split_takes_the_last_rows(trainer):
    logs, weights = trainer.fit(X, Y, sample_weight=WEIGHTS, validation_split=0.2)
    first, last = slice(0, 8), slice(8, 10)
    parts = [
        (X[s], {n: t[s] for n, t in Y.items()}, {n: w[s] for n, w in WEIGHTS.items()})
        for s in (first, last)
    ]
    (x, y, weight), held_out = parts
    expected = trainer.fit(x, y, sample_weight=weight, validation_data=held_out)
    assert_same((logs, weights), expected)
