"""Data whose labels are there for some samples or steps only."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from balanced_nets import weights_of
from keras import layers, ops

import lossweigh as lw

ROWS, BATCH = 24, 6


def net(steps=()):
    keras.utils.set_random_seed(4)
    x = keras.Input((*steps, 4), name="x")
    hidden = layers.Dense(5, activation="tanh", name="hidden")(x)
    full = layers.Dense(2, name="full")(hidden)
    partial = layers.Dense(3, name="partial")(hidden)
    return keras.Model(x, {"full": full, "partial": partial})


def data(steps=(), each=False):
    """x, y, and y with 70% of one branch's labels removed.

    The third batch has none of them. With `each` it is numbers that are missing,
    not whole labels.
    """
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, *steps, 4)).astype("float32")
    full = rng.normal(size=(ROWS, *steps, 2)).astype("float32")
    partial = rng.normal(size=(ROWS, *steps, 3)).astype("float32")
    gone = rng.random(partial.shape if each else partial.shape[:-1]) < 0.7
    gone[2 * BATCH : 3 * BATCH] = True
    partial[gone] = np.nan
    return x, {"full": full, "partial": partial}


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return self.x[rows], {name: array[rows] for name, array in self.y.items()}


SOURCES = {
    "NumPy": lambda x, y: ((x, y), {"batch_size": BATCH, "shuffle": False}),
    "tf.data": lambda x, y: (
        (tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH),),
        {"shuffle": False},
    ),
    "PyDataset": lambda x, y: ((Batches(x, y),), {"shuffle": False}),
}


def labelled_mean(y_true, y_pred):
    """The mean over the labels that are there; a scalar, for Keras alone."""
    there = ops.logical_not(ops.isnan(y_true))
    error = ops.square(ops.where(there, y_true, 0.0) - y_pred)
    count = ops.sum(ops.cast(there, "float32"))
    return ops.sum(ops.where(there, error, 0.0)) / ops.maximum(count, 1.0)


@pytest.mark.parametrize(
    ("source", "steps", "each"),
    [
        ("NumPy", (), False),
        ("NumPy", (), True),
        ("NumPy", (3,), False),
        ("NumPy", (3,), True),
        ("tf.data", (3,), True),
        ("PyDataset", (), False),
    ],
)
def test_it_trains_on_the_mean_over_what_is_labelled(source, steps, each):
    x, y = data(steps, each)
    prediction, plain = net(steps), net(steps)
    plain.set_weights(prediction.get_weights())
    losses = {"full": "mse", "partial": lw.BranchLoss("mse", missing="nan")}
    training = lw.build_training_model(prediction, losses, lw.FixedWeights([1.0, 2.0]))
    training.compile(keras.optimizers.SGD(0.1))
    arguments, kwargs = SOURCES[source](x, y)
    history = training.fit(*arguments, epochs=2, verbose=0, **kwargs).history
    plain.compile(
        keras.optimizers.SGD(0.1),
        loss={"full": "mse", "partial": labelled_mean},
        loss_weights={"full": 1.0, "partial": 2.0},
    )
    expected = plain.fit(
        x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0
    ).history
    for ours, theirs in zip(prediction.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)


WEIGHTERS = ["LossWeighter", "DWA", "FAMO", "GeometricMean", "RevisedUncertainty"]


def state(layer):
    return {v.path: ops.convert_to_numpy(v) for v in layer.variables}


@pytest.mark.parametrize("weighter", WEIGHTERS)
def test_a_weighter_skips_a_branch_without_labels(weighter):
    """A batch without the branch's labels is one of a model without the branch."""
    x, y = data()
    losses = {"full": "mse", "partial": lw.BranchLoss("mse", missing="nan")}
    training = lw.build_training_model(net(), losses, getattr(lw, weighter)())
    training.compile(keras.optimizers.SGD(0.1))
    training.fit(*Batches(x, y)[0], verbose=0)
    head = training.prediction_model.get_layer("partial")
    before = head.get_weights(), ops.convert_to_numpy(training.weighter.loss_weights)
    training.train_on_batch(*Batches(x, y)[2])
    after = head.get_weights(), ops.convert_to_numpy(training.weighter.loss_weights)
    for one, other in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(one, other)
    if weighter != "GeometricMean":  # whose weights are made of the losses
        np.testing.assert_allclose(before[1][1], after[1][1], rtol=1e-6)


@pytest.mark.parametrize("balancer", ["MGDA", "NashMTL", "UPGrad", "GradNorm"])
def test_a_balancer_skips_a_branch_without_labels(balancer):
    """The trunk moves as if the branch weren't there, and no state of it does."""
    x, y = data()
    losses = {"full": "mse", "partial": lw.BranchLoss("mse", missing="nan")}
    training = lw.build_training_model(net(), losses, balancer=getattr(lw, balancer)())
    training.compile(keras.optimizers.SGD(0.1))
    training.train_on_batch(*Batches(x, y)[0])
    before = training.prediction_model.get_layer("partial").get_weights()
    training.train_on_batch(*Batches(x, y)[2])
    weights = weights_of(training)
    assert np.isfinite(weights).all()
    for one, other in zip(
        before,
        training.prediction_model.get_layer("partial").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    trunk = training.prediction_model.get_layer("hidden").get_weights()
    assert all(np.isfinite(array).all() for array in trunk)
