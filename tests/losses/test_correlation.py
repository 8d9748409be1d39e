"""Correlation against scipy.stats.pearsonr, and a loop over sequences and channels."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from loss_gradients import (
    array_of,
    compiled,
    differentiable,
    numeric_gradient,
    reloaded,
    value_and_gradients,
)
from scipy.stats import pearsonr

import lossweigh as lw
from lossweigh.losses.correlation import FORMS, Correlation

B, T, C = 5, 7, 2
MASKS = ["right", "left", "holes", "samples", "channels"]
WEIGHTS = [(B,), (B, 1), (B, T), (B, T, C), (B, 1, C)]


def draw(*shape, seed=0, level=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=shape)
    p = 0.6 * y + rng.normal(size=shape)
    return tuple((level + scale * x).astype("float32") for x in (y, p))


def mask(kind):
    """Sequences of 2 to T valid steps, and a sequence without any."""
    real = np.arange(T) < np.array([T, 4, 2, 0, 5])[:, None]
    if kind == "left":
        return real[:, ::-1].copy()
    if kind == "holes":
        real[0, [1, 4]] = False
        real[1, 0] = False
    if kind == "samples":
        return real.any(1)
    if kind == "channels":
        real = np.repeat(real[..., None], C, -1)
        real[1, :, 0] = False
    return real


def r_of(y, p, w):
    """A weighted correlation in float64, 0 for a constant."""
    if w.sum() == 0:
        return 0.0
    y, p = y.astype("float64"), p.astype("float64")
    y, p = y - np.average(y, weights=w), p - np.average(p, weights=w)
    below = np.sqrt(np.sum(w * y * y) * np.sum(w * p * p))
    return np.sum(w * y * p) / below if below > 0 else 0.0


def by_hand(y, p, valid=None, weight=None, one=lambda y, p, w: 1.0 - r_of(y, p, w)):
    """Each sequence's loss, weighted, by the docstring."""
    if p.ndim == 2:
        y, p = y[..., None], p[..., None]

    def full(x):
        x = np.ones(1) if x is None else np.asarray(x, "float64")
        return np.broadcast_to(x.reshape(x.shape + (1,) * (3 - x.ndim)), p.shape)

    valid, weight = full(valid) > 0, full(weight)
    losses = []
    for i in range(len(p)):
        of_channels = [
            weight[i, on, c].mean() * one(y[i, on, c], p[i, on, c], weight[i, on, c])
            for c in range(p.shape[-1])
            if (on := valid[i, :, c]).any()
        ]
        losses.append(np.mean(of_channels) if of_channels else 0.0)
    return np.array(losses)


def samples(values):
    """The mean over all axes but the first."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def hidden(y, p, valid):
    """Targets and predictions with nan where they aren't valid."""
    valid = valid.reshape(valid.shape + (1,) * (p.ndim - valid.ndim))
    valid = np.broadcast_to(valid, p.shape)
    return tuple(np.where(valid, x, np.nan).astype("float32") for x in (y, p))


@pytest.mark.parametrize(
    ("steps", "level"), [(2, 0.0), (30, 0.0), (29, 1000.0), (500, 1000.0)]
)
def test_against_scipy(steps, level):
    y, p = draw(4, steps, 3, level=level)
    got = array_of(Correlation().values(y, p))
    of_each = [
        [pearsonr(y[i, :, c], p[i, :, c])[0] for c in range(3)] for i in range(4)
    ]
    np.testing.assert_allclose(got, 1 - np.mean(of_each, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "other"), [(1e-8, 1e4), (1e-3, 1e-3), (1e4, 1e-3), (1e10, 1e4)]
)
def test_of_any_unit(scale, other):
    y, p = draw(4, 30, 3)
    y, p = (y * scale).astype("float32"), (p * other + 3 * other).astype("float32")
    expected = by_hand(y, p)
    for form in ("sequence", "steps"):
        got = samples(Correlation(form=form).values(y, p))
        np.testing.assert_allclose(array_of(got), expected, atol=1e-5)


def test_a_long_start_far_from_the_rest():
    """The first steps' mean is that of no other step."""
    y, p = draw(4, 500, 3, seed=3)
    y[:, :70] += 1e3
    p[:, 0] -= 1e4
    got = array_of(Correlation().values(y, p))
    np.testing.assert_allclose(got, by_hand(y, p), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *((kind, shape) for kind in (None, *MASKS) for shape in (None, (B, T))),
        *(("holes", shape) for shape in WEIGHTS),
        ("channels", (B, T, C)),
    ],
)
def test_masks_and_weights(kind, shape):
    y, p = draw(B, T, C)
    valid = None if kind is None else mask(kind)
    weight = None
    if shape is not None:
        weight = np.random.default_rng(1).uniform(0, 2, shape).astype("float32")
    expected = by_hand(y, p, valid, weight)
    there = np.ones(B) if valid is None else valid.reshape(B, -1).any(1)
    if valid is not None:
        y, p = hidden(y, p, valid)
    y, p = ops.array(y), ops.array(p)
    shapes = {"scalar": (), "sequence": (B,), "repeated": (B, T), "steps": (B, T)}
    for form in FORMS if kind == "holes" else ("sequence", "steps"):
        got = Correlation(form=form).values(y, p, valid=valid, weight=weight)
        assert tuple(got.shape) == shapes[form]
        got = array_of(got)
        if form == "scalar":
            np.testing.assert_allclose(got, expected.sum() / there.sum(), atol=1e-5)
            continue
        each = got if form == "sequence" else got.mean(1)
        np.testing.assert_allclose(each, expected, atol=1e-5)
        if form == "steps" and kind not in (None, "samples", "channels"):
            assert not got[~valid].any()


@pytest.mark.smoke
def test_each_step_is_the_formula():
    y, p = draw(B, T)
    d_y, d_p = y - y.mean(1, keepdims=True), p - p.mean(1, keepdims=True)
    below = np.sqrt((d_y**2).mean(1) * (d_p**2).mean(1))[:, None]
    got = array_of(Correlation(form="steps").values(y, p))
    np.testing.assert_allclose(got, 1 - d_y * d_p / below, atol=1e-5)


def test_weights_that_are_the_same():
    y, p = draw(B, T, C)
    valid = mask("left")
    weight = np.random.default_rng(2).uniform(0, 2, B).astype("float32")
    loss = Correlation()
    expected = array_of(loss.values(y, p, valid=valid)) * weight
    for same in (
        weight,
        weight[:, None],
        np.repeat(weight[:, None], T, 1),
        np.tile(weight[:, None, None], (1, T, C)),
    ):
        got = array_of(loss.values(y, p, valid=valid, weight=same))
        np.testing.assert_allclose(got, expected, atol=1e-6)
    # A step that weighs nothing isn't looked at, but it is one of the valid steps.
    weight = np.ones((B, T), "float32")
    weight[:, 2:4] = 0
    left = np.delete(y, [2, 3], 1), np.delete(p, [2, 3], 1)
    got = array_of(loss.values(y, p, weight=weight))
    np.testing.assert_allclose(got, by_hand(*left) * (T - 2) / T, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "case"),
    [
        *(("sequence", case) for case in ("plain", "shifted", "weight")),
        ("steps", "shifted"),
        *((form, "both") for form in FORMS),
    ],
)
def test_gradient(form, case):
    level = 100.0 if case == "shifted" else 0.0
    y, p = draw(B, T, C, level=level)
    valid = mask("holes") if case == "both" else None
    weight = None
    if case in ("weight", "both"):
        weight = np.random.default_rng(1).uniform(0, 2, (B, T)).astype("float32")
    count = B if valid is None or form != "scalar" else valid.any(1).sum()

    def function(y, p):
        values = Correlation(form=form).values(y, p, valid=valid, weight=weight)
        return values * count if form == "scalar" else samples(values)

    expected = numeric_gradient(lambda y, p: by_hand(y, p, valid, weight), y, p)
    _, got = value_and_gradients(function, y, p)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


def test_gradient_of_single_steps():
    """Steps may be weighed by whoever asked for them."""
    y, p = draw(B, T)
    factor = np.random.default_rng(1).normal(size=(B, T))

    def steps(y, p):
        y, p = (x - x.mean(1, keepdims=True) for x in (y, p))
        below = np.sqrt((y**2).mean(1) * (p**2).mean(1))[:, None]
        return factor * (1 - y * p / below)

    def function(y, p):
        return Correlation(form="steps").values(y, p) * ops.cast(factor, "float32")

    _, got = value_and_gradients(function, y, p)
    for one, other in zip(got, numeric_gradient(steps, y, p), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", ["sequence", "steps"])
def test_sequences_without_a_correlation(form):
    """Constants, one step, no step: finite, and no gradient."""
    y, _ = draw(6, 11)
    p = y.copy()
    p[0] = 0.0
    p[1] = 1000.1
    y[2], p[2] = 0.3, -7.7
    p[3] = 1000.0
    p[3, ::2] = np.nextafter(np.float32(1000.0), np.float32(2000.0))  # rounding
    valid = np.ones((6, 11), bool)
    valid[4, 1:] = False
    valid[5] = False
    y[4, 1:], p[5] = np.nan, np.inf
    for real in (valid, None):
        if real is None:
            y, p = y[:4], p[:4]

        def function(y, p, real=real):
            return samples(Correlation(form=form).values(y, p, valid=real))

        values, gradients = value_and_gradients(function, y, p)
        np.testing.assert_allclose(values, [1, 1, 1, 1, 1, 0][: len(y)], atol=1e-6)
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, 0.0)
    one, gradient = value_and_gradients(function, y[:, :1], p[:, :1])
    np.testing.assert_allclose(one, 1.0)
    np.testing.assert_array_equal(gradient[1], 0.0)


def test_bounds():
    y, _ = draw(4, 30, 3, seed=4)
    loss = Correlation()
    assert (array_of(loss.values(y, 3 * y + 1)) >= 0).all()
    np.testing.assert_allclose(loss.values(y, 3 * y + 1), 0, atol=1e-6)
    opposite = array_of(loss.values(y, -y))
    assert (opposite <= 2).all()
    np.testing.assert_allclose(opposite, 2, atol=1e-6)


@pytest.mark.parametrize("form", FORMS[1:])
def test_of_unknown_size_and_compiled(form):
    """One model for all lengths."""
    loss = lw.BranchLoss(Correlation(form=form))
    predict = compiled(lambda x: loss(x), [(None, None, C)] * 2)
    for time in (7, 10):
        y, p = draw(B, time, C)
        np.testing.assert_allclose(predict([y, p]), by_hand(y, p), atol=1e-5)


@pytest.mark.parametrize("time", [B, T])
def test_a_plain_keras_model(time):
    """The mask that Keras carries; with as many steps as samples, too."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, time, 3)).astype("float32")
    real = np.arange(time) < np.array([time, 3, 4, 2, 5])[:, None]
    x[~real] = 0
    y = rng.normal(size=(B, time, 1)).astype("float32")
    inputs = keras.Input((None, 3))
    each = layers.LSTM(4, return_sequences=True, use_cudnn=False)(
        layers.Masking()(inputs)
    )
    model = keras.Model(inputs, layers.Dense(1)(each))
    p = model.predict(x, verbose=0)
    weight = rng.uniform(0, 2, (B,) if time == B else (B, time)).astype("float32")
    model.compile("sgd", Correlation())
    got = model.evaluate(x, y, sample_weight=weight, verbose=0)
    expected = by_hand(y, p, real, weight).mean()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    if time == T:
        history = model.fit(x, y[..., 0], epochs=2, verbose=0).history["loss"]
        np.testing.assert_allclose(history[0], by_hand(y, p, real).mean(), atol=1e-5)
        assert history[1] < history[0]


@pytest.mark.parametrize("form", FORMS[1:])
def test_in_a_branch(form):
    y, p = draw(B, T, C)
    real, weight = mask("left"), np.linspace(0, 2, B).astype("float32")
    hidden_y, hidden_p = hidden(y, p, real)
    branch = lw.BranchLoss(Correlation(form=form))
    got = branch([hidden_y, hidden_p, weight], mask=[None, ops.array(real)])
    expected = by_hand(y, p, real, weight)
    counted = real.any(1).sum()
    np.testing.assert_allclose(array_of(got), expected * B / counted, atol=1e-5)
    # A channel whose target is missing isn't one of the channels.
    y[0, 2, 0] = y[1, :, 1] = np.nan
    got = lw.BranchLoss(Correlation(form=form), missing="nan")([y, p])
    np.testing.assert_allclose(array_of(got), by_hand(y, p, ~np.isnan(y)), atol=1e-5)


@pytest.mark.parametrize("form", FORMS[1:])
def test_the_sample_is_the_mean_of_its_steps(form):
    y, p = draw(B, T, C)
    counts = {"valid": mask("holes"), "weight": np.linspace(0, 2, B)[:, None]}
    loss = Correlation(form=form)
    steps = array_of(loss.values(y, p, **counts)).reshape(B, -1)
    got = loss.sample_values(y, p, **counts)
    np.testing.assert_allclose(array_of(got), steps.mean(1), atol=1e-6)


def test_a_scalar_in_a_branch():
    y, p = draw(B, T)
    with pytest.raises(ValueError, match="returned a scalar"):
        lw.BranchLoss(Correlation(form="scalar"))([y, p])


@pytest.mark.parametrize("form", FORMS)
def test_the_batch_has_one_value(form):
    y, p = draw(B, T, C)
    loss = Correlation(form=form)
    np.testing.assert_allclose(float(loss(y, p)), by_hand(y, p).mean(), atol=1e-6)
    weight = np.arange(B, dtype="float32")
    got = float(loss(y, p, sample_weight=weight))
    np.testing.assert_allclose(got, by_hand(y, p, None, weight).mean(), atol=1e-5)
    if form != "scalar":
        total = Correlation(form=form, reduction="sum")(y, p)
        np.testing.assert_allclose(float(total), by_hand(y, p).sum(), atol=1e-5)


def test_compiled_gradient_is_the_eager_one():
    y, p = draw(B, 20, C, level=5.0)
    direct = value_and_gradients(Correlation().values, y, p)
    longer = differentiable(Correlation(form="steps").values, 2)(y, p)
    np.testing.assert_allclose(longer[0].mean(1), direct[0], atol=1e-6)
    for one, other in zip(direct[1], longer[1], strict=True):
        np.testing.assert_allclose(one, other / 20, rtol=1e-4, atol=1e-7)


# Torch's compiler makes an instance of the class that brings a gradient.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_called_inside_of_what_is_compiled():
    """The call looks for the prediction's mask, which once took a layer of its own."""
    y, p = draw(B, 20, C)
    loss, backend = Correlation(), keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(loss, jit_compile=True)
    elif backend == "jax":
        import jax

        function = jax.jit(loss)
    else:
        import torch

        # Traced as it is always; without the wait for machine code.
        function = torch.compile(loss, backend="aot_eager")
    got = function(ops.array(y), ops.array(p))
    np.testing.assert_allclose(array_of(got), by_hand(y, p).mean(), atol=1e-6)


def test_integer_targets_and_a_missing_last_axis():
    _, p = draw(B, T)
    y = np.arange(B * T).reshape(B, T) % 5
    expected = by_hand(y, p)
    for target, prediction in ((y, p[..., None]), (y[..., None], p)):
        got = Correlation().values(target, prediction)
        np.testing.assert_allclose(array_of(got), expected, atol=1e-5)


def test_saved():
    loss = reloaded(Correlation(form="steps", epsilon=1e-3, reduction="sum"))
    assert (loss.form, loss.epsilon, loss.reduction) == ("steps", 1e-3, "sum")
    assert Correlation().name == "correlation"
    assert lw.BranchLoss(Correlation()).task_type == "regression"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"form": "vector"}, ValueError, "`form` must be one of 'scalar', 'sequence'"),
        ({"epsilon": -1.0}, ValueError, "`epsilon` must be at least 0"),
        ({"epsilon": "x"}, TypeError, "`epsilon` must be a number"),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Correlation(**arguments)


def test_shapes():
    y, p = draw(B, T, C)
    loss = Correlation()
    with pytest.raises(ValueError, match="Correlation needs an output with time steps"):
        loss.values(y[:, 0, 0], p[:, 0, 0])
    with pytest.raises(ValueError, match="takes one target and one output"):
        loss.values(y, p, p)
    for target in (y[:, :-1], y[..., :1], y[..., 0], y[:, 0, 0]):
        with pytest.raises(
            ValueError, match="needs a target of the prediction's shape"
        ):
            loss.values(target, p)
    for valid in (mask("right")[:, 1:], mask("right")[:, :1], mask("right")[:-1]):
        with pytest.raises(ValueError, match="The mask of Correlation must have the"):
            loss.values(y, p, valid=valid)
    with pytest.raises(ValueError, match="The sample_weight of Correlation must have"):
        loss.values(y, p, weight=np.ones((B, T - 1), "float32"))
    with pytest.raises(ValueError, match="sample_weight of shape"):
        loss.values(y[..., 0], p[..., 0], weight=np.ones((B, T, 1), "float32"))
