"""Between and Simplex against NumPy and against a numerical optimizer."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from scipy import optimize

import lossweigh as lw


def test_between_clips_every_element():
    w = np.array([[-3.0, 0.2], [0.25, 0.5], [0.75, 9.0]], "float32")
    clipped = ops.convert_to_numpy(lw.Between(0.25, 0.75)(w))
    np.testing.assert_array_equal(clipped, np.clip(w, 0.25, 0.75))
    assert float(lw.Between(-1, 2)(np.float32(5.0))) == 2.0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("min_value", [0.0, 0.02])
def test_simplex_is_the_closest_point(size, min_value):
    rng = np.random.default_rng(size)
    for scale in (0.1, 1.0, 100.0):
        w = rng.normal(scale=scale, size=size)
        projected = ops.convert_to_numpy(lw.Simplex(min_value)(w.astype("float32")))
        assert projected.min() >= min_value - 1e-6
        assert abs(projected.sum() - 1) < 1e-4
        # The closest point is a shift and a cut; find the shift by bisection.
        shift = optimize.brentq(
            lambda t, w=w: np.maximum(w - t, min_value).sum() - 1,
            w.min() - 2,
            w.max() + 2,
            xtol=1e-12,
        )
        expected = np.maximum(w - shift, min_value)
        np.testing.assert_allclose(projected, expected, atol=2e-5 * max(scale, 1))


def test_simplex_leaves_its_own_points_and_takes_rows_of_a_matrix():
    rows = np.array([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "float32")
    projected = ops.convert_to_numpy(lw.Simplex()(rows))
    expected = [[0.2, 0.3, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(projected, expected, atol=1e-6)
    assert float(lw.Simplex()(np.float32(7.0))) == 1.0


def test_simplex_with_no_room_is_the_middle():
    projected = ops.convert_to_numpy(lw.Simplex(0.5)(np.array([3.0, -1.0], "float32")))
    np.testing.assert_allclose(projected, [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("constraint", [lw.Between(-1, 2.5), lw.Simplex(0.1)])
def test_config_round_trip(constraint):
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(constraint)))
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(constraint)
    assert again.get_config() == constraint.get_config()
    assert saved["registered_name"] == f"lossweigh>{type(constraint).__name__}"


def test_keras_applies_them_after_the_optimizers_step():
    layer = keras.layers.Layer()
    for constraint, shape in ((lw.Between(0, 1), ()), (lw.Simplex(0.1), (3,))):
        variable = layer.add_weight(shape=shape, constraint=constraint)
        optimizer = keras.optimizers.SGD(10.0)
        gradient = ops.ones(shape) if shape == () else ops.array([1.0, -2.0, 0.5])
        optimizer.apply([gradient], [variable])
        expected = 0.0 if shape == () else [0.1, 0.8, 0.1]
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable.value), expected, atol=1e-6
        )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: lw.Between(1, 0), ValueError, "`min_value` must be less than"),
        (lambda: lw.Between(1, 1), ValueError, "the wrong way round"),
        (lambda: lw.Between(0, float("inf")), ValueError, "`max_value` must be finite"),
        (lambda: lw.Between("a", 1), TypeError, "`min_value` must be a number"),
        (lambda: lw.Simplex(-0.1), ValueError, "`min_value` must be between 0 and 1"),
        (
            lambda: lw.Simplex(0.4)(np.ones(3, "float32")),
            ValueError,
            "`min_value` must be at most 1/3 for 3 weights",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
