"""BranchLoss against a NumPy oracle, for every shape of loss, mask and weight."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import lossweigh as lw
from lossweigh.branches import ValidElements

B, T, H, W, C = 5, 4, 3, 2, 3


def numpy_of(x):
    return ops.convert_to_numpy(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def elements(loss, y, p):
    """The loss of each element, before any average."""
    if loss == "mse":
        return (y - p) ** 2
    if loss == "binary_crossentropy":
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))
    if loss == "categorical_crossentropy":
        return -(y * np.log(p / p.sum(-1, keepdims=True))).sum(-1)
    return -np.log(np.take_along_axis(p, y[..., None].astype(int), -1))[..., 0]


def spread(weight, rank):
    """A weight with trailing axes of size 1 added, or dropped, up to `rank`."""
    if weight.ndim > rank:
        return weight[..., 0]
    return weight.reshape(weight.shape + (1,) * (rank - weight.ndim))


def oracle(values, valid=None, weight=None, normalize="valid"):
    """The branch's loss, one number, from the docstring's table."""
    valid = np.ones(values.shape) if valid is None else valid
    valid = np.broadcast_to(spread(valid, values.ndim), values.shape)
    weight = np.ones(values.shape) if weight is None else weight
    weight = np.broadcast_to(spread(weight, values.ndim), values.shape)
    if valid.sum() == 0:
        return 0.0
    loss = np.where(valid > 0, values * weight, 0).sum() / valid.sum()
    return loss / np.mean(weight != 0) if normalize == "keras2" else loss


# name: (shape of the prediction, loss, kind of target)
CASES = {
    "vector": ((B,), "mse", "real"),
    "column": ((B, 1), "mse", "real"),
    "features": ((B, C), "mse", "real"),
    "sequence": ((B, T, C), "mse", "real"),
    "image": ((B, H, W), "mse", "real"),
    "map": ((B, H, W, 1), "binary_crossentropy", "binary"),
    "channels": ((B, H, W, C), "binary_crossentropy", "binary"),
    "classes": ((B, C), "sparse_categorical_crossentropy", "index"),
    "class_maps": ((B, H, W, C), "sparse_categorical_crossentropy", "index"),
    "labels_in_time": ((B, T, C), "sparse_categorical_crossentropy", "index"),
    "one_hot": ((B, C), "categorical_crossentropy", "one_hot"),
    "one_hot_in_time": ((B, T, C), "categorical_crossentropy", "one_hot"),
}


def drawn(case, seed=0):
    shape, loss, kind = CASES[case]
    rng = np.random.default_rng(seed)
    p = rng.normal(size=shape)
    index = rng.integers(0, C, shape[:-1])
    if kind == "real":
        y = rng.normal(size=shape)
    elif kind == "binary":
        y, p = rng.integers(0, 2, shape).astype(float), 1 / (1 + np.exp(-p))
    else:
        p = softmax(p)
        y = index if kind == "index" else np.eye(C)[index]
    y = y.astype("int32" if kind == "index" else "float32")
    return y, p.astype("float32"), loss, rng


def reduced(values, loss):
    """Keras's unreduced loss: elementwise losses are averaged over the last axis."""
    if loss in ("mse", "binary_crossentropy") and values.ndim > 1:
        return values.mean(-1)
    return values


@pytest.mark.smoke
@pytest.mark.parametrize("case", CASES)
def test_mean_and_shape(case):
    y, p, loss, _ = drawn(case)
    rows = numpy_of(lw.BranchLoss(loss)([y, p]))
    assert rows.shape == (B,)
    assert rows.dtype == np.float32
    values = reduced(elements(loss, y, p), loss)
    expected = values.reshape(B, -1).mean(-1)
    np.testing.assert_allclose(rows, expected, rtol=2e-5, atol=1e-6)


def weight_shapes(case):
    """(batch,), (batch, 1) and every leading part of the unreduced loss's shape."""
    shape = CASES[case][0]
    inner = shape[:-1] if len(shape) > 1 else shape
    shapes = [inner[:n] for n in range(1, len(inner) + 1)]
    return shapes + ([(B, 1)] if len(shape) > 1 else [])


@pytest.mark.smoke
@pytest.mark.parametrize("normalize", ["valid", "keras2"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_masks_and_sample_weights(case, masked, normalize):
    y, p, loss, rng = drawn(case)
    values = reduced(elements(loss, y, p), loss)
    mask = None
    if masked and values.ndim > 1:
        mask = rng.random(values.shape[:2]) < 0.6
        mask[0] = False
    for shape in [None, *weight_shapes(case)]:
        weight = None
        if shape is not None:
            weight = rng.integers(0, 3, shape).astype("float32") * rng.random(shape)
            weight = weight.astype("float32")
        layer = lw.BranchLoss(loss, normalize=normalize)
        inputs = [y, p] if weight is None else [y, p, weight]
        rows = numpy_of(
            layer(inputs, mask=None if mask is None else [None, mask, None])
        )
        expected = oracle(values, mask, weight, normalize)
        np.testing.assert_allclose(rows.mean(), expected, rtol=3e-5, atol=1e-6)
        if mask is not None:
            assert rows[0] == 0


def test_rows_are_each_samples_share():
    y, p, loss, rng = drawn("sequence")
    mask = rng.random((B, T)) < 0.5
    rows = numpy_of(lw.BranchLoss(loss)([y, p], mask=[None, mask]))
    values = elements(loss, y, p).mean(-1) * mask
    np.testing.assert_allclose(rows, values.sum(-1) * B / mask.sum(), rtol=2e-5)


@pytest.mark.parametrize("case", ["features", "sequence", "channels"])
def test_weight_of_every_single_element(case):
    y, p, loss, rng = drawn(case)
    weight = rng.random(p.shape).astype("float32")
    rows = numpy_of(lw.BranchLoss(loss)([y, p, weight]))
    expected = oracle(elements(loss, y, p), None, weight)
    np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


def test_mask_of_every_single_element():
    y, p, loss, rng = drawn("image")
    mask = rng.random(p.shape) < 0.5
    rows = numpy_of(lw.BranchLoss(loss)([y, p], mask=[None, mask]))
    expected = oracle(elements(loss, y, p), mask)
    np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


@pytest.mark.smoke
@pytest.mark.parametrize("missing", ["nan", -1])
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][2] != "binary"])
def test_missing_labels_equal_the_observed_subset(case, missing):
    y, p, loss, rng = drawn(case)
    kind = CASES[case][2]
    y = y.astype("float32") if missing == "nan" else y
    gone = rng.random(y.shape) < 0.4
    if kind == "one_hot":  # a vector counts as missing where any element is
        gone[..., 1:] = False
        valid = ~gone[..., 0]
    else:
        valid = ~gone
    values = elements(loss, y, p)
    y = np.where(gone, np.nan if missing == "nan" else missing, y).astype(y.dtype)
    rows = numpy_of(lw.BranchLoss(loss, missing=missing)([y, p]))
    expected = oracle(values, valid.astype(float))
    np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


class Held(keras.layers.Layer):
    """Gives its own variable, whatever it is called on."""

    def __init__(self, value):
        super().__init__()
        self.held = self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype),
        )

    def call(self, inputs):
        return self.held * 1.0


def moved_by_a_step(layer, y, p, mask=None):
    """The gradient of mean(loss) at `p`, from one step of plain SGD."""
    held = Held(p)
    inputs = keras.Input(batch_shape=(len(p), 1))
    targets = keras.Input(batch_shape=y.shape, dtype=str(y.dtype))
    prediction = held(inputs)
    arguments = [targets, prediction]
    if mask is None:
        loss = layer(arguments)
    else:
        masks = keras.Input(batch_shape=mask.shape, dtype="bool")
        loss = layer(arguments, mask=[None, masks])
    data = [np.zeros((len(p), 1), "float32"), y] + ([] if mask is None else [mask])
    graph_inputs = [inputs, targets] + ([] if mask is None else [masks])
    model = keras.Model(graph_inputs, loss)
    model.compile(keras.optimizers.SGD(1.0), loss=lw.ignoreLoss)
    value = model.train_on_batch(data, np.zeros(len(p)))
    return np.asarray(value), p - numpy_of(held.held.value)


@pytest.mark.parametrize("missing", ["nan", -1])
@pytest.mark.parametrize("case", ["features", "sequence", "classes", "one_hot"])
def test_no_label_at_all_gives_zero_and_no_gradient(case, missing):
    y, p, loss, _ = drawn(case)
    dtype = "float32" if missing == "nan" else y.dtype
    y = np.full(y.shape, np.nan if missing == "nan" else missing, dtype)
    value, moved = moved_by_a_step(lw.BranchLoss(loss, missing=missing), y, p)
    assert value == 0
    np.testing.assert_array_equal(moved, 0)


def test_gradient_where_some_labels_are_missing():
    y, p, loss, rng = drawn("features")
    gone = rng.random(y.shape) < 0.5
    y = np.where(gone, np.nan, y).astype("float32")
    value, moved = moved_by_a_step(lw.BranchLoss(loss, missing="nan"), y, p)
    expected = np.where(gone, 0, 2 * (p - y)) / (~gone).sum()
    assert np.isfinite(value)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)


def test_nan_predictions_at_masked_steps_stay_out_of_the_gradient():
    y, p, loss, rng = drawn("sequence")
    mask = rng.random((B, T)) < 0.5
    p[~mask] = np.nan
    value, moved = moved_by_a_step(lw.BranchLoss(loss), y, p, mask)
    assert np.isfinite(value)
    np.testing.assert_array_equal(
        moved[~mask], np.where(np.isnan(moved[~mask]), np.nan, 0)
    )
    expected = 2 * (p - y)[mask] / C / mask.sum()
    np.testing.assert_allclose(moved[mask], expected, rtol=1e-4, atol=1e-6)


WEIGHTS = {0: 0.5, 2: 4.0}  # class 1 isn't named and weighs 1


@pytest.mark.parametrize("case", ["classes", "labels_in_time", "class_maps", "one_hot"])
def test_class_weights(case):
    y, p, loss, _ = drawn(case)
    index = y if CASES[case][2] == "index" else y.argmax(-1)
    weight = np.select([index == 0, index == 2], [0.5, 4.0], 1.0)
    rows = numpy_of(lw.BranchLoss(loss, class_weight=WEIGHTS)([y, p]))
    expected = oracle(elements(loss, y, p), None, weight)
    np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


@pytest.mark.parametrize("normalize", ["valid", "keras2"])
def test_class_and_sample_weights_multiply_with_binary_maps_and_missing(normalize):
    y, p, loss, rng = drawn("map")
    values = elements(loss, y, p)[..., 0]
    gone = rng.random(y.shape) < 0.3
    sample = rng.integers(0, 3, (B,)).astype("float32")
    weight = np.where(y[..., 0] > 0, 3.0, 0.5) * sample[:, None, None]
    weight = np.where(gone[..., 0], 0.5 * sample[:, None, None], weight)
    y = np.where(gone, np.nan, y).astype("float32")
    layer = lw.BranchLoss(
        loss, class_weight={0: 0.5, 1: 3.0}, missing="nan", normalize=normalize
    )
    rows = numpy_of(layer([y, p, sample]))
    expected = oracle(values, ~gone[..., 0], weight, normalize)
    np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


@pytest.mark.smoke
@pytest.mark.parametrize("case", ["sequence", "labels_in_time", "features"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_keras_where_keras_is_right(case, weighted):
    y, p, loss, rng = drawn(case)
    weight = rng.random(p.shape[:1]).astype("float32") if weighted else None
    if weighted and p.ndim == 3:
        weight = rng.random(p.shape[:2]).astype("float32")
    native = {
        "mse": keras.losses.MeanSquaredError(),
        "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy(),
    }[loss]
    expected = float(native(y, p, sample_weight=weight))
    inputs = [y, p] if weight is None else [y, p, weight]
    for given in (loss, native):
        rows = numpy_of(lw.BranchLoss(given)(inputs))
        np.testing.assert_allclose(rows.mean(), expected, rtol=2e-5)


def test_rank_of_the_target_is_aligned_not_broadcast():
    y, p, loss, _ = drawn("column")
    expected = numpy_of(lw.BranchLoss(loss)([y, p]))
    np.testing.assert_allclose(numpy_of(lw.BranchLoss(loss)([y[:, 0], p])), expected)
    vector = numpy_of(lw.BranchLoss(loss)([y, p[:, 0]]))
    np.testing.assert_allclose(vector, expected)
    y, p, loss, _ = drawn("labels_in_time")
    expected = numpy_of(lw.BranchLoss(loss)([y, p]))
    np.testing.assert_allclose(
        numpy_of(lw.BranchLoss(loss)([y[..., None], p])), expected
    )


@keras.saving.register_keras_serializable(package="lossweigh_tests")
def largest_error(y_true, y_pred):
    return ops.max(ops.abs(y_true - y_pred), axis=(1, 2))


def batch_mean(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def test_a_loss_of_the_users_that_reduces_time():
    y, p, _, rng = drawn("sequence")
    rows = numpy_of(lw.BranchLoss(largest_error)([y, p]))
    np.testing.assert_allclose(rows, np.abs(y - p).max((1, 2)), rtol=1e-6)
    weight = rng.random((B, T)).astype("float32")  # averaged over the axes it lost
    rows = numpy_of(lw.BranchLoss(largest_error)([y, p, weight]))
    np.testing.assert_allclose(
        rows, np.abs(y - p).max((1, 2)) * weight.mean(-1), rtol=1e-5
    )
    mask = np.ones((B, T), bool)
    mask[1] = False  # a sequence without a real step doesn't count
    rows = numpy_of(lw.BranchLoss(largest_error)([y, p], mask=[None, mask]))
    expected = np.abs(y - p).max((1, 2)) * B / (B - 1)
    expected[1] = 0
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_computes_in_float32_under_mixed_precision(dtype):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    try:
        layer = lw.BranchLoss("mse")
        target = np.array([[70000.0], [2049.0]], "float32")
        rows = numpy_of(layer([target, ops.cast(np.zeros((2, 1)), dtype)]))
    finally:
        keras.config.set_dtype_policy(policy)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, target[:, 0].astype("float32") ** 2)


@pytest.mark.parametrize(
    "layer",
    [
        lw.BranchLoss("huber", missing=-1, normalize="keras2", branch="a"),
        lw.BranchLoss(
            keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.5),
            class_weight={0: 2.0, 1: 0.5},
        ),
        lw.BranchLoss(largest_error, missing="nan", target_shape=(T, C)),
        ValidElements(missing="nan"),
    ],
)
def test_config_round_trip(layer):
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == layer.get_config()
    y, p, _, _ = drawn("sequence")
    np.testing.assert_array_equal(numpy_of(again([y, p])), numpy_of(layer([y, p])))


def test_valid_elements():
    y, p, _, rng = drawn("sequence")
    gone = rng.random(y.shape) < 0.2
    mask = rng.random((B, T)) < 0.5
    y = np.where(gone, np.nan, y)
    valid = numpy_of(ValidElements("nan")([y, p], mask=[None, mask]))
    np.testing.assert_array_equal(valid, mask & ~gone.any(-1))
    np.testing.assert_array_equal(numpy_of(ValidElements()([y, p])), np.ones((B, T)))


def call(loss, y, p, weight=None, mask=None, **kwargs):
    inputs = [np.asarray(y), np.asarray(p)]
    if weight is not None:
        inputs.append(np.asarray(weight))
    return lw.BranchLoss(loss, **kwargs)(inputs, mask=mask and [None, *mask])


Y, P = np.zeros((2, 3), "float32"), np.zeros((2, 3), "float32")
ERRORS = [
    (lambda: lw.BranchLoss(lambda y, p: y), ValueError, "must not be a Python lambda"),
    (lambda: lw.BranchLoss("msee"), ValueError, "must be the name of a Keras loss"),
    (lambda: lw.BranchLoss(3), TypeError, "must be a Keras loss name"),
    (
        lambda: lw.BranchLoss(keras.losses.Huber(reduction="sum")),
        ValueError,
        "must leave the reduction to BranchLoss",
    ),
    (
        lambda: lw.BranchLoss("mse", normalize="mean"),
        ValueError,
        "`normalize` must be one of 'valid', 'keras2'",
    ),
    (
        lambda: lw.BranchLoss("mse", missing="NaN!"),
        ValueError,
        "`missing` must be None, 'nan', or the number",
    ),
    (
        lambda: lw.BranchLoss("mse", class_weight={-1: 2.0}),
        ValueError,
        "must have class indices, integers of at least 0",
    ),
    (
        lambda: lw.BranchLoss("mse", class_weight={1: -2.0}),
        ValueError,
        r"`class_weight\[1\]` must be at least 0",
    ),
    (
        lambda: lw.BranchLoss("mse", class_weight=[1.0, 2.0]),
        TypeError,
        "must be a dict from class index to weight",
    ),
    (lambda: call(batch_mean, Y, P), ValueError, "'batch_mean' returned a scalar"),
    (lambda: call("mse", Y[:, :2], P), ValueError, r"must have the shape \(2, 3\)"),
    (lambda: call("mse", Y, P, np.ones(5)), ValueError, "`sample_weight` must have"),
    (
        lambda: call(
            "mse", np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), mask=[np.ones((2, 4))]
        ),
        ValueError,
        "`mask` must have the shape",
    ),
    (lambda: lw.BranchLoss("mse")([P]), ValueError, r"called on \[y_true, y_pred\]"),
]


@pytest.mark.parametrize(("make", "error", "message"), ERRORS)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
