"""A branch is absent from a batch that has no label of it, not where its loss is 0."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.ones((6, 1), "float32")


def satisfied(y_true, y_pred):
    """A hinge that every sample satisfies."""
    return ops.relu(0.0 * ops.sum(y_pred, axis=-1))


def two_losses(weighter, missing=None):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, {name: layers.Dense(1, name=name)(x) for name in "ab"})
    losses = {"a": lw.BranchLoss("mse", missing=missing), "b": lw.BranchLoss(satisfied)}
    training = lw.build_training_model(model, losses, weighter)
    training.compile(keras.optimizers.SGD(0.1))
    return training


def total_of(training, y):
    return training.test_on_batch(X, y, return_dict=True)


@pytest.mark.smoke
@pytest.mark.parametrize("missing", [None, "nan"])
def test_a_satisfied_hinge_is_there(missing):
    """The barrier counts all branches: `LossWeighter`'s total doesn't jump."""
    training = two_losses(lw.LossWeighter(barrier=0.5), missing)
    logs = total_of(training, {"a": Y, "b": Y})
    assert logs["b_loss"] == 0.0
    size = (logs["a_loss"] + logs["b_loss"]) / 2
    barrier = 0.5 * size * -2 * np.log(0.5)
    expected = 0.5 * logs["a_loss"] + barrier
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_its_weight_moves():
    training = two_losses(lw.LossWeighter())
    training.train_on_batch(X, {"a": Y, "b": Y})
    weights = ops.convert_to_numpy(training.weighter.loss_weights)
    assert weights[0] != 0.5


@pytest.mark.parametrize("weighter", [lw.LossWeighter, lw.RandomWeights])
def test_a_branch_without_labels_is_absent(weighter):
    """As ever: nothing moves, whatever the method."""
    training = two_losses(weighter(), "nan")
    before = ops.convert_to_numpy(training.weighter.loss_weights)
    nothing = np.full_like(Y, np.nan)
    training.train_on_batch(X, {"a": nothing, "b": Y})
    after = ops.convert_to_numpy(training.weighter.loss_weights)
    if weighter is lw.LossWeighter:
        np.testing.assert_array_equal(before, after)
    assert after[0] == before[0]


def test_wired_by_hand_a_loss_of_0_is_absent():
    """No count is known there."""
    losses = [np.ones(4, "float32"), np.zeros(4, "float32")]
    weighter = lw.LossWeighter(barrier=0.5)
    total = ops.convert_to_numpy(ops.mean(weighter(losses)))
    assert total == pytest.approx(0.5)
