"""`compile(metrics=...)`: of every kind, named as Keras does, right about masks."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import (
    LOSSES,
    ROWS,
    arrays,
    evaluate,
    fixed,
    numbers,
    sample_weights,
    sequences,
    two_heads,
)

import lossweigh as lw

X, Y = arrays()
WEIGHTS = sample_weights()


class LargestError(keras.metrics.Metric):
    """A metric of the user's own with a state of its own."""

    def __init__(self, name="largest_error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest.assign(
            ops.maximum(self.largest, ops.max(ops.abs(y_true - y_pred)))
        )

    def result(self):
        return ops.convert_to_tensor(self.largest)


def bias(y_true, y_pred):
    return ops.mean(y_pred - y_true, axis=-1)


def f1_of(y_true, y_pred):
    """F1 of one column, by its definition."""
    hits = (y_true * y_pred).sum()
    return 2 * hits / max(y_true.sum() + y_pred.sum(), 1)


@pytest.mark.smoke
@pytest.mark.compiled
def test_metrics_of_every_kind():
    y = {**Y, "zeta": (Y["zeta"] > 0).astype("float32")}
    f1 = keras.metrics.F1Score(average="macro", threshold=0.1)
    training = fixed(
        two_heads(),
        metrics={
            "zeta": ["mae", keras.metrics.MeanSquaredError(name="mse"), bias, f1],
            "alpha": "accuracy",
        },
        weighted_metrics={
            "alpha": [keras.metrics.SparseCategoricalAccuracy(name="weighed")],
            "zeta": LargestError(),
        },
    )
    prediction = training.predict(X, verbose=0)
    zeta, error = prediction["zeta"], prediction["zeta"] - y["zeta"]
    right = prediction["alpha"].argmax(-1) == y["alpha"]
    columns = [f1_of(y["zeta"][:, i], zeta[:, i] > 0.1) for i in range(3)]
    expected = {
        "zeta_mae": abs(error).mean(),
        "zeta_mse": (error**2).mean(),
        "zeta_bias": error.mean(),
        "zeta_f1_score": np.mean(columns),
        "zeta_largest_error": abs(error).max(),
        "alpha_accuracy": right.mean(),
        "alpha_weighed": np.average(right, weights=WEIGHTS["alpha"]),
    }
    logs = evaluate(training, y=y, sample_weight=WEIGHTS)
    assert logs == pytest.approx(logs | expected, abs=1e-5)
    assert 0 < expected["alpha_weighed"] != expected["alpha_accuracy"]
    # The same metrics follow training, and are put back at each epoch.
    history = training.fit(X, y, sample_weight=WEIGHTS, epochs=2, verbose=0).history
    assert history["zeta_mae"][0] == pytest.approx(expected["zeta_mae"], abs=1e-5)
    assert history["zeta_mae"][1] < history["zeta_mae"][0]


def test_metrics_as_a_list():
    training = fixed(
        two_heads(list), metrics=[["mae"], None], weighted_metrics=[[], "acc"]
    )
    logs = evaluate(training)
    assert {name for name in logs if name.endswith(("mae", "acc"))} == {
        "zeta_mae",
        "alpha_acc",
    }


@pytest.mark.parametrize(
    "metrics", [["accuracy", "mae"], {"only": ["accuracy", "mae"]}]
)
def test_metrics_of_one_output_have_plain_names(metrics):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, activation="sigmoid", name="only")]
    )
    training = lw.build_training_model(model, "binary_crossentropy")
    training.compile("sgd", metrics=metrics)
    y = (X[:, 0] > 0).astype("float32")
    prediction = training.predict(X, verbose=0)[:, 0]
    logs = evaluate(training, y=y)
    assert logs["accuracy"] == pytest.approx(((prediction > 0.5) == y).mean())
    assert logs["mae"] == pytest.approx(abs(prediction - y).mean(), abs=1e-6)


def test_metrics_skip_padded_steps():
    x, y = arrays(steps=(5,))
    training = fixed(
        sequences(),
        metrics={"zeta": ["mae"]},
        weighted_metrics={"alpha": ["accuracy"]},
    )
    prediction = training.predict(x, verbose=0)
    real = x != 0
    assert (~real).sum() > 0
    right = prediction["alpha"].argmax(-1) == y["alpha"]
    weights = {"alpha": WEIGHTS["alpha"]}
    logs = evaluate(training, x, y, weights)
    error = abs(prediction["zeta"] - y["zeta"]).mean(-1)
    assert logs["zeta_mae"] == pytest.approx(error[real].mean(), abs=1e-5)
    expected = np.average(right, weights=real * WEIGHTS["alpha"][:, None])
    assert logs["alpha_accuracy"] == pytest.approx(expected, abs=1e-5)


def test_metrics_skip_missing_labels():
    zeta, alpha = Y["zeta"].copy(), Y["alpha"].copy()
    zeta[2:5], alpha[:4] = np.nan, -1
    training = lw.build_training_model(
        two_heads(),
        {
            "zeta": lw.BranchLoss("mse", missing="nan"),
            "alpha": lw.BranchLoss(LOSSES["alpha"], missing=-1),
        },
    )
    metrics = {"zeta": ["mae"], "alpha": ["accuracy"]}
    training.compile("sgd", metrics=metrics, weighted_metrics={"zeta": ["mse"]})
    prediction = training.predict(X, verbose=0)
    error = (prediction["zeta"] - zeta)[[0, 1, *range(5, ROWS)]]
    right = prediction["alpha"].argmax(-1)[4:] == alpha[4:]
    # On a batch of NumPy arrays as well as in a compiled loop.
    weights = {"zeta": np.ones(ROWS, "float32")}
    y = {"zeta": zeta, "alpha": alpha}
    on_batch = training.test_on_batch(X, y, weights, return_dict=True)
    for logs in (evaluate(training, y=y, sample_weight=weights), numbers(on_batch)):
        assert logs["zeta_mae"] == pytest.approx(abs(error).mean(), abs=1e-5)
        assert logs["zeta_mse"] == pytest.approx((error**2).mean(), abs=1e-5)
        assert logs["alpha_accuracy"] == pytest.approx(right.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (
            {"box": ["mae"]},
            ValueError,
            r"`metrics` may only have the names of outputs, "
            r"\['zeta', 'alpha'\]. Received the names \['box'\] \(unknown: \['box'\]\)",
        ),
        (
            ["mae"],
            ValueError,
            r"`metrics` must be a dict by output name, as in {'zeta': \['mae'\]}, or a "
            r"list with the .* of each of the outputs \['zeta', 'alpha'\] in their "
            r"order.*\. Received: metrics=\['mae'\]",
        ),
    ],
)
def test_metrics_of_unknown_outputs(metrics, error, message):
    training = fixed(two_heads())
    with pytest.raises(error, match=message):
        training.compile("sgd", metrics=metrics)
    with pytest.raises(error, match=message.replace("metrics", "weighted_metrics")):
        training.compile("sgd", weighted_metrics=metrics)
    # What was compiled before is still in force.
    assert np.isfinite(evaluate(training)["loss"])


def test_a_list_may_be_as_long_as_the_outputs():
    """As in Keras, with None for an output that has no loss."""
    training = lw.build_training_model(two_heads(), {"alpha": "mse"})
    for metrics in ([["mae"]], [None, ["mae"]]):
        training.compile("sgd", metrics=metrics)
        assert "alpha_mae" in training.metrics_names


# An output without a loss, in a stream ---------------------------------------------


def batches_of(x, y):
    while True:
        for begin in range(0, len(x), 4):
            rows = slice(begin, begin + 4)
            yield x[rows], {name: target[rows] for name, target in y.items()}


# Keras says so of an output without a loss.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_stream_with_a_metric_of_an_output_without_a_loss(method, run_eagerly):
    """The metrics of the others count each label, as with arrays."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype("float32")
    y = {"a": rng.normal(size=(12, 3)), "b": rng.normal(size=(12, 2))}
    y["a"][rng.uniform(size=(12, 3)) < 0.3] = np.nan
    inputs = keras.Input((4,), name="x")
    outputs = {"a": layers.Dense(3)(inputs), "b": layers.Dense(2)(inputs)}
    model = keras.Model(inputs, outputs)
    logs = []
    for source in ("arrays", "generator"):
        losses = {"a": lw.BranchLoss("mse", missing="nan")}
        training = lw.build_training_model(model, losses, lw.FixedWeights())
        metrics = {"a": ["mae"], "b": ["mae"]}
        training.compile(
            keras.optimizers.SGD(0.0), metrics=metrics, run_eagerly=run_eagerly
        )
        if source == "arrays":
            data, steps = (x, y), {"batch_size": 4}
        else:
            data, steps = (batches_of(x, y),), {"steps": 3}
        if method == "fit":
            if "steps" in steps:
                steps = {"steps_per_epoch": 3}
            history = training.fit(*data, **steps, shuffle=False, verbose=0).history
            logs.append({name: values[0] for name, values in history.items()})
        else:
            found = training.evaluate(*data, **steps, verbose=0, return_dict=True)
            logs.append(found)
    prediction = model.predict(x, verbose=0)
    expected = np.nanmean(abs(prediction["a"] - y["a"]))
    assert logs[1]["a_mae"] == pytest.approx(expected, rel=1e-5)
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
