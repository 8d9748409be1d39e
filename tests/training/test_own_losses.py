"""Losses of the user's own: called as Keras calls them, and refused in words."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")


def model_of(*sizes):
    x = keras.Input((4,), name="x")
    names = ["a", "b"][: len(sizes)]
    outputs = [
        layers.Dense(size, name=name)(x)
        for name, size in zip(names, sizes, strict=True)
    ]
    return keras.Model(x, outputs)


def evaluate(training, y, x=X):
    return training.test_on_batch(x, y, return_dict=True)


# What is called -----------------------------------------------------------------


@keras.saving.register_keras_serializable("test_own_losses")
class Doubled(keras.losses.Loss):
    """Its `__call__` is its own, and gives a number a sample."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return 2 * ops.mean(ops.square(y_true - y_pred), axis=-1)

    def call(self, y_true, y_pred):
        raise AssertionError("this isn't what the user meant")


class Whole(keras.losses.Loss):
    """Its `__call__` gives one number for the batch."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.mean(ops.square(y_true - y_pred))


def test_a_loss_with_a_call_of_its_own():
    model = model_of(2)
    training = lw.build_training_model(model, Doubled(), lw.FixedWeights())
    training.compile("sgd")
    expected = 2 * ((model.predict(X, verbose=0) - Y) ** 2).mean()
    assert evaluate(training, Y)["loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="'Whole' of the branch 'a' returned a scalar"):
        lw.build_training_model(model, Whole())


@pytest.mark.compiled
def test_a_network_in_a_loss_is_one_of_inference():
    """Its statistics don't move, as in Keras (on JAX there only for a while)."""
    x = keras.Input((2,))
    judge = keras.Model(x, layers.BatchNormalization()(layers.Dense(3)(x)))

    def judged(y_true, y_pred):
        return ops.mean(ops.square(judge(y_true) - judge(y_pred)), axis=-1)

    before = judge.get_weights()
    model = model_of(2)
    expected = ops.mean(judged(Y, model.predict(X, verbose=0)))
    expected = float(ops.convert_to_numpy(expected))
    training = lw.build_training_model(model, judged, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    history = training.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
    assert history["loss"] == pytest.approx([expected, expected], rel=1e-4)
    for one, other in zip(before, judge.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_whole_numbers_that_a_loss_looks_at_stay_whole():
    """float32 would make 16777217 of 16777216."""
    ids = np.array([2**24, 2**24 + 1, 2**24 + 2, 2**24 + 3])
    x, number = keras.Input((4,), name="x"), keras.Input((), dtype="int32", name="id")
    model = keras.Model([x, number], {"a": layers.Dense(1, name="a")(x)})

    def odd(score, number):
        odd = ops.cast(number % 2, "float32")
        return ops.reshape(score, (-1,)) * 0 + odd

    def odd_of_target(y_true, score, number):
        return odd(score, number) + 0 * ops.reshape(y_true, (-1,))

    losses = {
        "a": lw.TargetFreeLoss(odd, of=["a", "id"]),
        "b": lw.BranchLoss(odd_of_target, of=["a", "id"], target="t"),
    }
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile("sgd")
    data = {"x": X[:4], "id": ids.astype("int32")}
    logs = training.test_on_batch(data, {"t": np.zeros(4)}, return_dict=True)
    assert logs["a_loss"] == logs["b_loss"] == pytest.approx(0.5)


# What is tried when the training model is built -----------------------------------


def of_pairs(y_true, y_pred):
    """Two views of each sample lie one after the other."""
    pairs = ops.reshape(y_pred, (-1, 2, y_pred.shape[-1]))
    return ops.repeat(ops.mean(ops.square(pairs[:, 0] - pairs[:, 1]), -1), 2, axis=0)


def of_triplets(y_true, y_pred):
    """Three rows a triplet, and one number for each: fewer than rows."""
    triplets = ops.reshape(y_pred, (-1, 3, y_pred.shape[-1]))
    near = ops.sum(ops.square(triplets[:, 0] - triplets[:, 1]), -1)
    return ops.relu(near - ops.sum(ops.square(triplets[:, 0] - triplets[:, 2]), -1) + 1)


def of_triplets_for_each_row(y_true, y_pred):
    return ops.repeat(of_triplets(y_true, y_pred), 3, axis=0)


def packed(y_true, y_pred):
    """A target of a mean and a weight for each output."""
    mean, weight = ops.split(y_true, 2, axis=-1)
    return ops.mean(weight * ops.square(mean - y_pred), axis=-1)


def each_by_each(y_true, y_pred):
    return ops.square(y_true - y_pred[:, 0] + 0 * ops.expand_dims(y_true, -1))


@pytest.mark.parametrize("loss", [of_pairs, of_triplets_for_each_row])
def test_a_loss_may_regroup_its_rows(loss):
    model = model_of(2)
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile("sgd")
    expected = ops.mean(loss(Y, ops.convert_to_tensor(model.predict(X, verbose=0))))
    assert evaluate(training, Y)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_of_fewer_values_than_rows():
    """The cure that the message names is run above."""
    words = r"returned 280 values for a batch of 840.*ops.repeat\(values, size_of_gr"
    with pytest.raises(ValueError, match=words):
        lw.build_training_model(model_of(2), of_triplets)


def test_a_loss_of_a_packed_target():
    model = model_of(2)
    words = (
        "The loss 'packed' of the branch 'a' failed on tensors of the shapes "
        r"\(batch, 2\), \(batch, 2\).*target_shape="
    )
    with pytest.raises(ValueError, match=words):
        lw.build_training_model(model, {"a": refuses_one_half})
    branch = lw.BranchLoss(packed, target_shape=(4,))
    training = lw.build_training_model(model, branch, lw.FixedWeights())
    training.compile("sgd")
    y = np.concatenate([Y, np.abs(Y)], axis=-1)
    expected = (np.abs(Y) * (model.predict(X, verbose=0) - Y) ** 2).mean()
    assert evaluate(training, y)["loss"] == pytest.approx(expected, rel=1e-5)


def refuses_one_half(y_true, y_pred):
    if y_true.shape[-1] != 2 * y_pred.shape[-1]:
        raise ValueError("half of the target is missing")
    return packed(y_true, y_pred)


refuses_one_half.__name__ = "packed"


def test_a_loss_that_compares_each_sample_with_each():
    branch = lw.BranchLoss(each_by_each, target_shape=())
    with pytest.raises(ValueError, match=r"a value for each pair of samples"):
        lw.build_training_model(model_of(1), branch)


@pytest.mark.parametrize("given", ["column", "vector"])
def test_the_target_of_several_tensors_is_a_column_where_one_of_them_is(given):
    """Or it would be broadcast against it, to (batch, batch)."""

    def error(y_true, score, x):
        return ops.mean(ops.square(y_true - score), axis=-1)

    model = model_of(1)
    branch = lw.BranchLoss(error, of=["a", "x"], target="t")
    training = lw.build_training_model(model, {"b": branch}, lw.FixedWeights())
    training.compile("sgd")
    expected = ((model.predict(X, verbose=0) - Y[:, :1]) ** 2).mean()
    y = Y[:, :1] if given == "column" else Y[:, 0]
    assert evaluate(training, {"t": y})["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.compiled
def test_a_network_in_a_masked_loss_is_one_of_inference():
    x = keras.Input((2,))
    judge = keras.Model(x, layers.BatchNormalization()(layers.Dense(3)(x)))

    class Judged(lw.MaskedLoss):
        over_time = False

        def values(self, y_true, y_pred, valid=None, weight=None):
            return ops.mean(ops.square(judge(y_true) - judge(y_pred)), axis=-1)

    before = judge.get_weights()
    training = lw.build_training_model(model_of(2), Judged(), lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    trained = training.fit(X, Y, verbose=0).history["loss"][0]
    assert trained == pytest.approx(training.evaluate(X, Y, verbose=0)[0], rel=1e-5)
    for one, other in zip(before, judge.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Class weights --------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_own_losses")
def cross_entropy(y_true, y_pred):
    return -ops.sum(y_true * ops.log(y_pred), axis=-1)


@keras.saving.register_keras_serializable("test_own_losses")
def squares(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


class Squares(keras.losses.MeanSquaredError):
    pass


CLASS_WEIGHTS = {0: 0.5, 1: 4.0, 2: 3.0}


def one_softmax():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(3, activation="softmax", name="kind")(x))


@pytest.mark.parametrize("loss", [squares, Squares(), functools.partial(squares)])
def test_class_weights_of_a_regression_of_ones_own(loss):
    """Keras weighs a row by the place of its largest number."""
    message = 'has no classes.*`loss.task_type = "classification"`'
    with pytest.raises(ValueError, match=message):
        lw.BranchLoss(loss, class_weight={0: 2.0})
    training = lw.build_training_model(one_softmax(), {"kind": loss})
    training.compile("sgd")
    x, y = np.ones((6, 4), "float32"), np.ones((6, 3), "float32")
    for class_weight in ({"kind": CLASS_WEIGHTS}, CLASS_WEIGHTS):
        with pytest.raises(ValueError, match=f"class_weight.'kind'.*{message}"):
            training.fit(x, y, class_weight=class_weight, verbose=0)


@pytest.mark.parametrize(
    "loss",
    [cross_entropy, functools.partial(keras.losses.categorical_crossentropy, axis=-1)],
    ids=["own", "partial"],
)
def test_class_weights_of_a_classification_of_ones_own(loss, monkeypatch):
    monkeypatch.setattr(cross_entropy, "task_type", "classification", raising=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, 12)]
    model = one_softmax()
    weights = model.get_weights()
    training = lw.build_training_model(model, {"kind": loss}, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.1))
    fit = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    found = training.fit(x, y, class_weight=CLASS_WEIGHTS, **fit).history["loss"]
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    native = model.fit(x, y, class_weight=CLASS_WEIGHTS, **fit).history["loss"]
    np.testing.assert_allclose(found, native, rtol=1e-5)
