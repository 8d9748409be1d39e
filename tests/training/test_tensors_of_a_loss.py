"""A loss is called on the target, if it has one, and on each tensor of `of`."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6,)).astype("float32")


def model():
    x = keras.Input((4,), name="x")
    return keras.Model(x, {n: layers.Dense(2, name=n)(x) for n in ("left", "right")})


def gap(y_true, left, right, scale=1.0):
    return scale * ops.square(ops.sum(left, -1) - 2 * ops.sum(right, -1) - y_true)


def free_gap(left, right, scale=1.0):
    return scale * ops.square(ops.sum(left, -1) - 2 * ops.sum(right, -1) - 3.0)


def order(first, second, third, scale=1.0):
    return scale * ops.sum(first + 2 * second, -1) + 3 * ops.sum(third, -1)


class Gap(layers.Layer):
    def call(self, y_true, left, right, valid=None):
        return gap(y_true, left, right)


class FreeGap(layers.Layer):
    def call(self, left, right, keep):
        return free_gap(left, right)


class MaskedGap(lw.MaskedLoss):
    over_time = False

    def values(self, y_true, left, right, valid=None, weight=None):
        return gap(y_true, left, right)


class OwnCall(keras.losses.Loss):
    def call(self, y_true, y_pred):
        raise NotImplementedError

    def __call__(self, y_true, left, right, sample_weight=None):
        return gap(y_true, left, right)


BOTH = ["left", "right"]
LOSSES = {
    "function": (lambda: lw.BranchLoss(gap, of=BOTH), 1.0),
    "partial": (lambda: lw.BranchLoss(functools.partial(gap, scale=3), of=BOTH), 3.0),
    "layer": (lambda: lw.BranchLoss(Gap(), of=BOTH), 1.0),
    "masked": (lambda: lw.BranchLoss(MaskedGap(), of=BOTH), 1.0),
    "called": (lambda: lw.BranchLoss(OwnCall(), of=BOTH), 1.0),
    "free function": (lambda: lw.TargetFreeLoss(free_gap, of=BOTH), 1.0),
    "free layer": (lambda: lw.TargetFreeLoss(FreeGap(), of=BOTH), 1.0),
    "free partial": (
        lambda: lw.TargetFreeLoss(functools.partial(free_gap, scale=3), of=BOTH),
        3.0,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_each_tensor_is_an_argument(name):
    make, scale = LOSSES[name]
    branch = make()
    prediction = model()
    training = lw.build_training_model(prediction, {"gap": branch}, lw.FixedWeights())
    training.compile("sgd")
    is_free = isinstance(branch, lw.TargetFreeLoss)
    got = training.evaluate(X, None if is_free else {"gap": Y}, verbose=0)
    predicted = prediction.predict(X, verbose=0)
    gaps = predicted["left"].sum(-1) - 2 * predicted["right"].sum(-1)
    expected = scale * np.mean((gaps - (3.0 if is_free else Y)) ** 2)
    assert got[0] == pytest.approx(float(expected), rel=1e-4)


def test_three_tensors_of_a_partial_in_their_order():
    branch = lw.TargetFreeLoss(functools.partial(order, scale=5.0), of=["a", "b", "c"])
    first, second, third = X[:, :2], X[:, 1:3], X[:, 2:]
    got = keras.ops.convert_to_numpy(branch([[first, second, third]]))
    expected = 5 * (first + 2 * second).sum(-1) + 3 * third.sum(-1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def as_list(y_true, y_pred):
    left, right = y_pred
    return gap(y_true, left, right)


def optional(y_true, left, right=None):
    return gap(y_true, left, right)


class ListLayer(layers.Layer):
    def call(self, y_true, y_pred, valid=None):
        return as_list(y_true, y_pred)


class MaskedOne(lw.MaskedLoss):
    def values(self, y_true, y_pred, valid=None, weight=None):
        return y_pred - y_true


REFUSED = {
    "a list": (
        lambda: lw.BranchLoss(as_list, of=BOTH),
        r"'as_list' of the branch 'b' is called on 3 tensors, one argument each: the "
        r"target and the tensors of `of`, \['left', 'right'\]\. Received a loss of "
        r"\(y_true, y_pred\)\. Write `def my_loss\(y_true, left, right\)`, or make it "
        r"a branch without a target: `TargetFreeLoss\(\.\.\.\)`, or name other tensors",
    ),
    "a default": (
        lambda: lw.BranchLoss(optional, of=BOTH),
        r"Received a loss of \(y_true, left\)\. Write `def my_loss\(y_true, left, r",
    ),
    "a name": (
        lambda: lw.BranchLoss("mse", of=BOTH),
        r"'mean_squared_error' .* called on 3 tensors.*a loss of \(y_true, y_pred\)",
    ),
    "a threshold that a tensor would be": (
        lambda: lw.BranchLoss(keras.losses.Huber(), of=BOTH),
        r"'Huber' of the branch 'b' is called on 3 tensors",
    ),
    "a layer": (
        lambda: lw.BranchLoss(ListLayer(), of=BOTH),
        r"Write `def call\(self, y_true, left, right, valid=None\)`",
    ),
    "a masked one": (
        lambda: lw.BranchLoss(MaskedOne(), of=BOTH),
        r"'MaskedOne' .* is called on 3 tensors.*a loss of \(y_true, y_pred\)",
    ),
    "too few": (
        lambda: lw.BranchLoss(gap, of="left"),
        r"is called on 2 tensors.*Received a loss of \(y_true, left, right\)\. Write "
        r"`def my_loss\(y_true, left\)`, or name other tensors in `of`",
    ),
    "a target too much": (
        lambda: lw.TargetFreeLoss(gap, of=BOTH),
        r"is called on 2 tensors, one argument each: the tensors of `of`.*or "
        r"make it a branch with a target: `BranchLoss\(\.\.\.\)`",
    ),
    "one of one": (
        lambda: lw.TargetFreeLoss("mse", of="left"),
        r"is called on 1 tensor, one argument each.*Received a loss of \(y_true",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_number_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        lw.build_training_model(model(), {"b": make()})


def test_another_number_by_hand():
    left, right = X[:, :2], X[:, 2:]
    with pytest.raises(
        TypeError, match=r"the tensors of `of`, \['tensor_0', 'tensor_1'\]"
    ):
        lw.BranchLoss(as_list)([Y, [left, right]])
    with pytest.raises(TypeError, match=r"`def my_loss\(tensor_0\)`"):
        lw.TargetFreeLoss(free_gap)([[left]])
