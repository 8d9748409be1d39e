"""What Keras takes is taken: losses, names, data, callbacks."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")


@keras.saving.register_keras_serializable("test_as_keras_takes_it")
def scaled(y_true, y_pred, scale=1.0):
    return scale * ops.mean(ops.square(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable("test_as_keras_takes_it")
class Scaled:
    """A loss that is an object with a call and a config."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, y_true, y_pred):
        return scaled(y_true, y_pred, self.scale)

    def get_config(self):
        return {"scale": self.scale}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def one_head(name="price"):
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2, name=name)(x))


def evaluate(training, x=X, y=Y, **kwargs):
    return training.evaluate(x, y, 12, verbose=0, return_dict=True, **kwargs)


# Losses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        (functools.partial(scaled, scale=2.0), 2.0),
        (Scaled(3.0), 3.0),
        (keras.losses.MeanSquaredError, 1.0),
        (["mse"], 1.0),
    ],
    ids=["partial", "object", "class", "list"],
)
def test_forms_of_a_loss(loss, scale, tmp_path):
    """Each is saved, and reloaded as it was."""
    model = one_head()
    expected = scale * ((model.predict(X, verbose=0) - Y) ** 2).mean()
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile("sgd")
    assert evaluate(training)["loss"] == pytest.approx(expected, rel=1e-5)
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    assert evaluate(loaded)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", scaled, keras.losses.MeanSquaredError()])
def test_one_loss_for_all_outputs(loss):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, [layers.Dense(2, name=name)(x) for name in "ba"])
    model.compile("sgd", loss=loss)
    expected = evaluate(model, y=[Y, -Y])["loss"]
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile("sgd")
    assert training.branches == ["b", "a"]
    assert evaluate(training, y=[Y, -Y])["loss"] == pytest.approx(expected, rel=1e-5)


def test_ctc_knows_the_shape_of_its_target():
    """Whole numbers, a sequence of another length than the prediction's."""
    steps = keras.Input((8, 3))
    model = keras.Model(steps, layers.Dense(5, name="text")(steps))
    x = RNG.normal(size=(4, 8, 3)).astype("float32")
    y = RNG.integers(1, 5, (4, 3))
    model.compile("sgd", loss=keras.losses.CTC())
    expected = model.evaluate(x, y, verbose=0)
    training = lw.build_training_model(model, keras.losses.CTC(), lw.FixedWeights())
    training.compile("sgd")
    found = training.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_cure_for_one_target_in_two_shapes():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, {"a": layers.Dense(1)(x), "b": layers.Dense(2)(x)})
    losses = {"a": lw.BranchLoss("mse", target="t")}
    shared = {**losses, "b": lw.BranchLoss("mse", target="t")}
    with pytest.raises(ValueError, match=r"once in each shape.*{'t': ..., 'b': ...}"):
        lw.build_training_model(model, shared)
    cure = {"a": lw.BranchLoss("mse", target="t"), "b": lw.BranchLoss("mse")}
    training = lw.build_training_model(model, cure)
    training.compile("sgd")
    training.fit(X, {"t": Y[:, :1], "b": Y}, verbose=0)


# Names --------------------------------------------------------------------------


def outputs_of(kind, x):
    first, second = layers.Dense(2), layers.Dense(2)
    return {
        "whole numbers": {0: first(x), 1: second(x)},
        "slash": {"g/a": first(x), "b": second(x)},
        "nested": {"g": {"a": first(x)}, "b": second(x)},
    }[kind]


@pytest.mark.parametrize("source", ["arrays", "data set"])
@pytest.mark.parametrize("kind", ["whole numbers", "slash", "nested"])
def test_names_of_outputs(kind, source, tmp_path):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, outputs_of(kind, x))
    first, second = {
        "whole numbers": ("0", "1"),
        "slash": ("g/a", "b"),
        "nested": ("g/a", "b"),
    }[kind]

    def structured(first, second):
        return {
            "whole numbers": {0: first, 1: second},
            "slash": {"g/a": first, "b": second},
            "nested": {"g": {"a": first}, "b": second},
        }[kind]

    training = lw.build_training_model(
        model, structured("mse", "mae"), lw.FixedWeights({first: 2.0, second: 1.0})
    )
    training.compile("sgd", metrics=structured(["mse"], ["mse"]))
    y, weights = structured(Y, -Y), structured(np.ones(12), np.ones(12))
    prediction = keras.tree.flatten(model.predict(X, verbose=0))
    true = keras.tree.flatten(y)
    errors = [p - t for p, t in zip(prediction, true, strict=True)]
    if kind != "whole numbers":  # "b" comes before "g"
        errors.reverse()
    if source == "arrays":
        logs = training.test_on_batch(X, y, weights, return_dict=True)
    else:
        logs = training.evaluate(
            (batch for batch in [(X, y, weights)]),
            steps=1,
            verbose=0,
            return_dict=True,
        )
    assert logs[f"{first}_mse"] == pytest.approx((errors[0] ** 2).mean(), rel=1e-5)
    assert logs[f"{second}_loss"] == pytest.approx(abs(errors[1]).mean(), rel=1e-5)
    training.fit(X, y, verbose=0)
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    assert loaded.branches == [first, second]
    loaded.fit(X, y, verbose=0)


@pytest.mark.parametrize("balancer", [None, lw.MGDA])
@pytest.mark.parametrize("name", ["a_loss", "weighter", "loss_tap", "a_valid"])
def test_models_and_inputs_that_are_named_as_our_layers(name, balancer):
    for model_name, input_name in ((name, "x"), ("model", name)):
        x = keras.Input((4,), name=input_name)
        hidden = layers.Dense(3)(x)
        outputs = {key: layers.Dense(2, name=key)(hidden) for key in "ab"}
        training = lw.build_training_model(
            keras.Model(x, outputs, name=model_name),
            {"a": lw.BranchLoss("mse", missing="nan"), "b": "mse"},
            balancer=balancer and balancer(),
        )
        training.compile("sgd")
        history = training.fit(X, {"a": Y, "b": Y}, verbose=0).history
        assert np.isfinite(history["a_loss"]).all()


# Data ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_as_keras_takes_it")
class HoldsOneThatIsNeverCalled(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.called, self.never = layers.Dense(3), layers.Dense(3)

    def build(self, shape):
        self.called.build(shape)

    def call(self, inputs):
        return self.called(inputs)


class Batches(keras.utils.PyDataset):
    """Batches as `kind` makes them of x and y."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return self.kind([X[rows], Y[rows]])


@pytest.mark.smoke
@pytest.mark.parametrize("source", ["arrays", "tuples", "lists", "by hand"])
def test_a_layer_that_is_never_called(source):
    x = keras.Input((4,), name="x")
    outputs = layers.Dense(2, name="price")(HoldsOneThatIsNeverCalled()(x))
    training = lw.build_training_model(keras.Model(x, outputs), "mse")
    training.compile("sgd", metrics=["mae"])
    if source == "arrays":
        training.fit(X, Y, verbose=0)
    elif source == "by hand":
        results = training({"x": X, "price_target": Y})
        assert results["price_loss"].shape == (12,)
    else:
        training.fit(Batches(tuple if source == "tuples" else list), verbose=0)


@pytest.mark.parametrize("weights", [None, "price"])
def test_a_fixed_batch_size(weights):
    x = keras.Input(batch_shape=(4, 4), name="x")
    model = keras.Model(x, layers.Dense(2, name="price")(x))
    model.compile("sgd", loss="mse")
    weights = weights and RNG.uniform(size=12).astype("float32")
    expected = model.evaluate(X, Y, 4, sample_weight=weights, verbose=0)
    training = lw.build_training_model(model, "mse", lw.FixedWeights())
    training.compile("sgd")
    logs = training.evaluate(
        X, Y, 4, sample_weight=weights, verbose=0, return_dict=True
    )
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    training.fit(X, Y, batch_size=4, sample_weight=weights, verbose=0)


@pytest.mark.parametrize("steps", [7, 8])
def test_a_fixed_batch_size_may_be_that_of_another_axis(steps):
    x = keras.Input(batch_shape=(8, steps, 3), name="x")
    model = keras.Model(x, layers.Dense(1, name="y")(x))
    model.compile("sgd", loss="mse")
    data, y = RNG.normal(size=(8, steps, 3)), RNG.normal(size=(8, steps, 1))
    expected = model.evaluate(data, y, 8, verbose=0)
    training = lw.build_training_model(model, "mse")
    training.compile("sgd")
    logs = training.evaluate(data, y, 8, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("structure", [dict, list])
def test_further_keys_of_x(structure):
    """A table may have more columns than the model takes, as in Keras."""
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    outputs = layers.Dense(2, name="price")(layers.Add()(list(inputs.values())))
    given = inputs if structure is dict else list(inputs.values())
    training = lw.build_training_model(keras.Model(given, outputs), "mse")
    training.compile("sgd")
    x = {"a": X, "id": np.arange(12), "b": X}
    training.fit(x, Y, verbose=0)
    with pytest.raises(ValueError, match=r"missing: \['b'\]"):
        training.fit({"a": X, "id": np.arange(12)}, Y, verbose=0)


class AddIfThere(layers.Layer):
    def call(self, x, other=None):
        return x if other is None else x + other

    def compute_output_shape(self, x_shape, other_shape=None):
        return x_shape


@pytest.mark.parametrize("leave_out", [True, False])
def test_an_optional_input(leave_out):
    x = keras.Input((4,), name="x")
    other = keras.Input((4,), name="other", optional=True)
    outputs = layers.Dense(2, name="price")(AddIfThere()(x, other))
    model = keras.Model({"x": x, "other": other}, outputs)
    training = lw.build_training_model(model, "mse", lw.FixedWeights())
    training.compile("sgd")
    for value in (None, X):
        data = {"x": X, "other": value}
        expected = ((ops.convert_to_numpy(model(data)) - Y) ** 2).mean()
        if leave_out and value is None:
            del data["other"]
        logs = training.evaluate(data, Y, 12, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
        training.fit(data, Y, verbose=0)


# Callbacks and files -------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2])
def test_early_stopping_knows_what_is_better(heads):
    x = keras.Input((4,), name="x")
    kinds = {f"kind{i}": layers.Dense(3, activation="softmax")(x) for i in range(heads)}
    loss = "sparse_categorical_crossentropy"
    training = lw.build_training_model(keras.Model(x, kinds), loss, lw.Uncertainty())
    training.compile("sgd", metrics={name: ["accuracy"] for name in kinds})
    y = dict.fromkeys(kinds, np.arange(12) % 3)
    accuracy = "val_accuracy" if heads == 1 else "val_kind1_accuracy"
    expected = {accuracy: "max", "val_kind0_loss": "min", "val_unweighted_loss": "min"}
    for monitor, mode in expected.items():
        stop = keras.callbacks.EarlyStopping(monitor, patience=1)
        training.fit(X, y, validation_data=(X, y), callbacks=[stop], verbose=0)
        assert stop.mode == mode
        assert np.isfinite(stop.best)


def test_a_callback_list_may_be_used_again():
    training = lw.build_training_model(one_head(), "mse")
    training.compile("sgd")
    callbacks = keras.callbacks.CallbackList([], add_history=True, model=training)
    numbers = []
    for _ in range(2):
        training.fit(X, Y, callbacks=callbacks, verbose=0)
        numbers.append(len(callbacks.callbacks))
    assert numbers[0] == numbers[1]


def test_a_file_that_could_not_be_read_is_not_written(tmp_path):
    training = lw.build_training_model(one_head(), "mse")
    training.compile("sgd")
    with pytest.raises(ValueError, match=r"must end in `.keras`"):
        training.save(tmp_path / "training.h5")
    assert not list(tmp_path.iterdir())
    training.save_weights(tmp_path / "name.weights.h5")  # the cure
    training.load_weights(tmp_path / "name.weights.h5")
