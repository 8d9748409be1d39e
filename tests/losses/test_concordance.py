"""Concordance against Lin's formula in NumPy, over sequences and channels."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from loss_gradients import (
    array_of,
    compiled,
    numeric_gradient,
    reloaded,
    value_and_gradients,
)

import lossweigh as lw
from lossweigh.losses.concordance import Concordance

B, T, C = 4, 6, 2


def draw(*shape, seed=0, level=0.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=shape)
    p = 0.6 * y + rng.normal(size=shape) + 0.5
    return tuple((level + x).astype("float32") for x in (y, p))


def mask(kind):
    real = np.arange(T) < np.array([T, 4, 2, 0])[:, None]
    if kind == "left":
        return real[:, ::-1].copy()
    if kind == "holes":
        real[0, [1, 4]] = False
    if kind == "channels":
        real = np.repeat(real[..., None], C, -1)
        real[1, :, 0] = False
    return real


def concordance(y, p, w):
    """Lin's, weighted, in float64; 1 for two equal constants."""
    if w.sum() == 0:
        return 1.0
    y, p = y.astype("float64"), p.astype("float64")
    my, mp = np.average(y, weights=w), np.average(p, weights=w)
    cov = np.average((y - my) * (p - mp), weights=w)
    whole = np.average((y - my) ** 2 + (p - mp) ** 2, weights=w) + (my - mp) ** 2
    return 2 * cov / whole if whole > 0 else 1.0


def by_hand(y, p, valid=None, weight=None):
    """Each sequence's loss, weighted, by the docstring."""
    if p.ndim == 2:
        y, p = y[..., None], p[..., None]

    def full(x):
        x = np.ones(1) if x is None else np.asarray(x, "float64")
        return np.broadcast_to(x.reshape(x.shape + (1,) * (3 - x.ndim)), p.shape)

    valid, weight = full(valid) > 0, full(weight)
    losses = []
    for i in range(len(p)):
        of_channels = []
        for c in range(p.shape[-1]):
            on = valid[i, :, c]
            if on.any():
                w = weight[i, on, c]
                c_of = concordance(y[i, on, c], p[i, on, c], w)
                of_channels.append(w.mean() * (1.0 - c_of))
        losses.append(np.mean(of_channels) if of_channels else 0.0)
    return np.array(losses)


@pytest.mark.smoke
@pytest.mark.parametrize("level", [0.0, 1e3, -1e4])
@pytest.mark.parametrize("time", [2, 37, 500])
def test_against_numpy(time, level):
    y, p = draw(3, time, C, level=level)
    got = array_of(Concordance().values(y, p))
    np.testing.assert_allclose(got, by_hand(y, p), atol=1e-5)


@pytest.mark.parametrize("kind", [None, "right", "left", "holes", "channels"])
@pytest.mark.parametrize("shape", [None, (B,), (B, T), (B, T, C)])
def test_masks_and_weights(kind, shape):
    y, p = draw(B, T, C)
    valid = None if kind is None else mask(kind)
    weight = None
    if shape is not None:
        weight = np.random.default_rng(1).uniform(0, 2, shape).astype("float32")
    expected = by_hand(y, p, valid, weight)
    if valid is not None:
        real = valid.reshape(valid.shape + (1,) * (3 - valid.ndim))
        y, p = (np.where(real, x, np.nan).astype("float32") for x in (y, p))
    got = Concordance().values(y, p, valid=valid, weight=weight)
    np.testing.assert_allclose(array_of(got), expected, atol=1e-5)
    if shape == (B,):
        for same in (weight[:, None], np.repeat(weight[:, None], T, 1)):
            again = Concordance().values(y, p, valid=valid, weight=same)
            np.testing.assert_allclose(array_of(again), array_of(got), atol=1e-6)


@pytest.mark.parametrize("case", ["plain", "shifted", "weight", "mask and weight"])
def test_gradient(case):
    y, p = draw(B, T, C, level=100.0 if case == "shifted" else 0.0)
    valid = mask("holes") if "mask" in case else None
    weight = None
    if "weight" in case:
        weight = np.random.default_rng(1).uniform(0, 2, (B, T)).astype("float32")

    def function(y, p):
        return Concordance().values(y, p, valid=valid, weight=weight)

    expected = numeric_gradient(lambda y, p: by_hand(y, p, valid, weight), y, p)
    _, got = value_and_gradients(function, y, p)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


def test_constants_one_step_and_none():
    y, _ = draw(6, 9)
    p = np.zeros_like(y)
    y[1], p[1] = 1000.1, 1000.1  # equal constants
    y[2], p[2] = 0.3, -2.0  # others
    y[3], p[3] = 1000.0, np.nextafter(np.float32(1000.0), np.float32(2000.0))
    valid = np.ones((6, 9), bool)
    valid[4, 1:] = False
    valid[5] = False
    y[4, 1:], p[5] = np.nan, np.inf
    expected = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]

    def function(y, p):
        return Concordance().values(y, p, valid=valid)

    values, gradients = value_and_gradients(function, y, p)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[[1, 3, 5]], 0.0)
        np.testing.assert_array_equal(gradient[~valid], 0.0)
    # A constant prediction of a target that varies learns to vary with it.
    assert np.abs(gradients[1][0]).min() > 0
    values, _ = value_and_gradients(Concordance().values, y[:4], p[:4])
    np.testing.assert_allclose(values, expected[:4], atol=1e-6)
    for level, loss in ((0.0, 1.0), (1.0, 0.0)):
        one = np.ones((1, 1), "float32")
        values, gradients = value_and_gradients(Concordance().values, one, one * level)
        np.testing.assert_allclose(values, loss, atol=1e-6)
        assert np.isfinite(gradients).all()


def test_bounds():
    y, _ = draw(3, 37, C, seed=4)
    loss = Concordance()
    np.testing.assert_allclose(loss.values(y, y), 0, atol=1e-6)
    y -= y.mean(1, keepdims=True)
    np.testing.assert_allclose(loss.values(y, -y), 2, atol=1e-6)
    for values in (loss.values(y, y), loss.values(y, -y)):
        assert ((array_of(values) >= 0) & (array_of(values) <= 2)).all()


@pytest.mark.parametrize("time", [B, T])
def test_a_plain_keras_model(time):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, time, 3)).astype("float32")
    real = np.arange(time) < np.array([time, 3, 4, 2])[:, None]
    x[~real] = 0
    y = rng.normal(size=(B, time, 1)).astype("float32")
    inputs = keras.Input((None, 3))
    each = layers.LSTM(4, return_sequences=True, use_cudnn=False)(
        layers.Masking()(inputs)
    )
    model = keras.Model(inputs, layers.Dense(1)(each))
    p = model.predict(x, verbose=0)
    model.compile("sgd", Concordance())
    got = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(got, by_hand(y, p, real).mean(), atol=1e-5)


def test_in_a_branch_of_unknown_size():
    real, weight = mask("left"), np.linspace(0, 2, B).astype("float32")
    y, p = draw(B, T, C)
    branch = lw.BranchLoss(Concordance())
    got = branch([y, p, weight], mask=[None, ops.array(real)])
    expected = by_hand(y, p, real, weight) * B / real.any(1).sum()
    np.testing.assert_allclose(array_of(got), expected, atol=1e-5)
    predict = compiled(lambda x: branch(x), [(None, None, C)] * 2)
    for time in (7, 10):
        y, p = draw(B, time, C)
        np.testing.assert_allclose(predict([y, p]), by_hand(y, p), atol=1e-5)


def test_saved_and_checked():
    loss = reloaded(Concordance(epsilon=1e-3, reduction="sum"))
    assert (loss.epsilon, loss.reduction) == (1e-3, "sum")
    assert Concordance().name == "concordance"
    with pytest.raises(ValueError, match="`epsilon` must be at least 0"):
        Concordance(epsilon=-1)
    with pytest.raises(ValueError, match="`reduction` must be one of"):
        Concordance(reduction="max")
    y, p = draw(B, T, C)
    loss = Concordance()
    with pytest.raises(ValueError, match="Concordance needs an output with time steps"):
        loss.values(y[:, 0, 0], p[:, 0, 0])
    with pytest.raises(
        ValueError, match="Concordance needs a target of the prediction"
    ):
        loss.values(y[:, :-1], p)
    with pytest.raises(ValueError, match="The mask of Concordance must have the shape"):
        loss.values(y, p, valid=mask("right")[:, 1:])
