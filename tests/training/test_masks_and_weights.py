"""What padded steps, sample weights and both rules of reduction do to a loss."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw
from lossweigh.branches import MaskedLoss

ROWS, STEPS, SIZE = 5, 4, 3
# Keras says so of some layers that lose a mask, and of others doesn't.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a m")


@keras.saving.register_keras_serializable(package="tests")
class Range(MaskedLoss):
    """The squared sum of a sequence's errors: it needs the mask."""

    def values(self, y_true, y_pred, valid=None, weight=None):
        error = ops.sum(y_true - y_pred, axis=-1)
        if valid is not None:
            error = ops.where(valid, error, 0.0)
        error = ops.square(ops.sum(error, axis=1))
        return error if weight is None else error * ops.mean(weight, axis=-1)


def tokens(rows, steps, side="right", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 7, (rows, steps))
    lengths = rng.integers(1, steps + 1, rows)
    order = np.arange(steps)
    real = order < lengths[:, None]
    if side == "left":
        real = real[:, ::-1]
    return np.where(real, x, 0), real, lengths


def flat(steps):
    x = keras.Input((steps,), dtype="int32", name="x")
    hidden = layers.Embedding(7, 4, mask_zero=True)(x)
    hidden = layers.LSTM(4, return_sequences=True, use_cudnn=False)(hidden)
    return keras.Model(x, layers.Dense(SIZE, name="y")(hidden))


def bidirectional(steps):
    x = keras.Input((steps,), dtype="int32", name="x")
    hidden = layers.Embedding(7, 4)(x)
    hidden = layers.Masking()(
        hidden * ops.cast(ops.not_equal(x, 0), "float32")[..., None]
    )
    hidden = layers.Bidirectional(layers.GRU(2, return_sequences=True))(hidden)
    return keras.Model(x, layers.Dense(SIZE, name="y")(hidden))


def nested(steps):
    x = keras.Input((steps,), dtype="int32", name="x")
    inner = flat(steps)
    return keras.Model(
        x, layers.TimeDistributed(layers.Dense(SIZE), name="y")(inner(x))
    )


def cut_off(steps):
    """A layer that drops the mask; the mask is an output."""
    x = keras.Input((steps,), dtype="int32", name="x")
    real = ops.not_equal(x, 0)
    hidden = layers.Embedding(7, SIZE, mask_zero=True)(x)
    y = layers.Reshape((steps, SIZE))(layers.Flatten()(hidden))
    return keras.Model(x, {"y": y, "real": ops.cast(real, "float32")})


def with_lengths(steps):
    x = keras.Input((steps,), dtype="int32", name="x")
    lengths = keras.Input((), dtype="int32", name="lengths")
    hidden = layers.Embedding(7, SIZE)(x)
    return keras.Model({"x": x, "lengths": lengths}, {"y": hidden})


MODELS = {
    "flat": (flat, None),
    "bidirectional": (bidirectional, None),
    "nested": (nested, None),
    "mask as an output": (cut_off, "real"),
    "lengths as an input": (with_lengths, "lengths"),
}
WEIGHTS = {
    "none": None,
    "a row": (ROWS,),
    "a row, (batch, 1)": (ROWS, 1),
    "a step": (ROWS, STEPS),
    "an element": (ROWS, STEPS, SIZE),
}


def reduced(values, mask, weight, normalize):
    """Both rules, as their papers of old have them; values and mask (B, T)."""
    weight = np.ones_like(values) if weight is None else weight
    if normalize == "valid":  # Keras 3
        return np.sum(values * mask * weight) / np.sum(mask)
    score = values * mask / np.mean(mask)  # Keras 2
    return np.mean(score * weight / np.mean(weight != 0))


@pytest.mark.compiled
@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("steps", [None, STEPS])
def test_lengths_may_be_a_column(shape, steps):
    x = keras.Input((steps, SIZE), name="x")
    lengths = keras.Input(shape, dtype="int32", name="lengths")
    y = layers.Dense(1, name="y")(x)
    model = keras.Model({"x": x, "lengths": lengths}, y)
    loss = lw.BranchLoss("mse", mask="lengths")
    training = lw.build_training_model(model, {"y": loss})
    training.compile("sgd", metrics=["mse"])
    _, real, numbers = tokens(ROWS, STEPS, "right")
    rng = np.random.default_rng(1)
    data = rng.normal(size=(ROWS, STEPS, SIZE)).astype("float32")
    target = rng.normal(size=(ROWS, STEPS, 1)).astype("float32")
    arrays = {"x": data, "lengths": numbers.reshape(ROWS, *shape)}
    logs = training.evaluate(arrays, target, ROWS, verbose=0, return_dict=True)
    squares = (model.predict(arrays, verbose=0) - target)[..., 0] ** 2
    assert logs["loss"] == pytest.approx(squares[real].mean(), rel=1e-5)
    assert logs["mse"] == pytest.approx(squares[real].mean(), rel=1e-5)


def inputs(model, x, lengths):
    return {"x": x, "lengths": lengths} if len(model.inputs) == 2 else x


@pytest.mark.parametrize(
    ("name", "normalize", "rows"),
    [
        *((name, "valid", ROWS) for name in MODELS),
        ("flat", "keras2", ROWS),
        ("flat", "valid", STEPS),  # as many rows as steps
        ("nested", "keras2", STEPS),
    ],
)
def test_the_rule_of_reduction(name, normalize, rows):
    make, mask = MODELS[name]
    model = make(STEPS)
    side = "right" if name == "lengths as an input" else "left"
    x, real, lengths = tokens(rows, STEPS, side)
    rng = np.random.default_rng(1)
    y = rng.normal(size=(rows, STEPS, SIZE)).astype("float32")
    loss = lw.BranchLoss("mse", mask=mask, normalize=normalize)
    training = lw.build_training_model(model, {"y": loss}, lw.FixedWeights())
    training.compile("sgd", metrics={"y": ["mae"]})
    predicted = model.predict(inputs(model, x, lengths), verbose=0)
    predicted = predicted["y"] if isinstance(predicted, dict) else predicted
    forms = WEIGHTS if name == "flat" else ("none", "a step")
    for number, shape in enumerate(WEIGHTS[form] for form in forms):
        if number == 1:  # what is left has been seen compiled in other tests
            training.compile("sgd", metrics={"y": ["mae"]}, run_eagerly=True)
        weight = None
        if shape is not None:
            weight = rng.integers(0, 3, (rows, *shape[1:])).astype("float32")
        logs = training.evaluate(
            inputs(model, x, lengths),
            {"y": y},
            sample_weight=None if weight is None else {"y": weight},
            verbose=0,
            return_dict=True,
        )
        if shape is not None and len(shape) == 3:  # the mean over all elements
            values, each = (y - predicted) ** 2, real[..., None] * np.ones(SIZE)
        else:
            values, each = np.mean((y - predicted) ** 2, -1), real
        wide = weight
        while wide is not None and wide.ndim < values.ndim:
            wide = wide[..., None]
        wide = None if wide is None else np.broadcast_to(wide, values.shape)
        expected = reduced(values, each, wide, normalize)
        np.testing.assert_allclose(logs["y_loss"], expected, rtol=1e-5)
    mae = np.mean(np.abs(y - predicted)[real])
    key = "y_mae" if "y_mae" in logs else "mae"
    np.testing.assert_allclose(logs[key], mae, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("nested", marks=pytest.mark.compiled),
        *sorted({*MODELS} - {"nested"}),
    ],
)
def test_a_loss_that_needs_the_mask(name, tmp_path):
    make, mask = MODELS[name]
    model = make(STEPS)
    side = "right" if name == "lengths as an input" else "left"
    x, real, lengths = tokens(ROWS, STEPS, side)
    y = np.random.default_rng(1).normal(size=(ROWS, STEPS, SIZE)).astype("float32")
    training = lw.build_training_model(
        model, {"y": lw.BranchLoss(Range(), mask=mask)}, lw.FixedWeights()
    )
    training.compile(keras.optimizers.SGD(0.0))
    predicted = model.predict(inputs(model, x, lengths), verbose=0)
    predicted = predicted["y"] if isinstance(predicted, dict) else predicted
    expected = np.mean(np.sum((y - predicted) * real[..., None], axis=(1, 2)) ** 2)
    batch = inputs(model, x, lengths), {"y": y}
    loss, *_ = training.evaluate(*batch, verbose=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    history = training.fit(*batch, verbose=0).history
    np.testing.assert_allclose(history["y_loss"][0], expected, rtol=1e-5)
    training.save(tmp_path / "training.keras")
    again = keras.models.load_model(tmp_path / "training.keras")
    loss, *_ = again.evaluate(*batch, verbose=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def lost(steps):
    x = keras.Input((steps,), dtype="int32", name="x")
    hidden = layers.Embedding(7, SIZE, mask_zero=True)(x)
    return keras.Model(
        x, layers.Reshape((steps, SIZE), name="y")(layers.Flatten()(hidden))
    )


def test_a_lost_mask_is_an_error():
    x, _, _ = tokens(ROWS, STEPS)
    y = {"y": np.zeros((ROWS, STEPS, SIZE))}
    training = lw.build_training_model(lost(STEPS), {"y": Range()}, lw.FixedWeights())
    training.compile("sgd")
    before = [ops.convert_to_numpy(v) for v in training.variables]
    with pytest.raises(
        ValueError, match=r"(?s)mask of the branch 'y' was lost.*mask=Fal"
    ):
        training.fit(x, y, verbose=0)
    for old, variable in zip(before, training.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    loss = lw.BranchLoss(Range(), mask=False)
    training = lw.build_training_model(lost(STEPS), {"y": loss}, lw.FixedWeights())
    training.compile("sgd")
    training.fit(x, y, verbose=0)


def test_a_mask_of_another_length():
    layer = lw.BranchLoss("mse")
    y = np.zeros((ROWS, STEPS, SIZE), "float32")
    mask = np.ones((ROWS, STEPS + 1), bool)
    with pytest.raises(ValueError, match=r"`mask` must have the shape .*\(5, 5\)"):
        layer([y, y], mask=[None, ops.convert_to_tensor(mask)])


def test_a_column_of_weights_for_an_output_without_axes():
    x = keras.Input((3,))
    number = layers.Reshape((), name="number")(layers.Dense(1)(x))
    training = lw.build_training_model(keras.Model(x, number), "mse")
    training.compile("sgd")
    rows, y = np.ones((4, 3)), np.arange(4.0)
    losses = [
        training.test_on_batch(rows, y, sample_weight=weight)
        for weight in (np.arange(4.0), np.arange(4.0)[:, None])
    ]
    np.testing.assert_array_equal(*losses)
