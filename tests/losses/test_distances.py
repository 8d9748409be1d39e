import keras
import numpy as np
import pytest
from keras import ops
from loss_gradients import array_of, check, drawn, reloaded, value_and_gradients

from lossweigh.losses.distances import (
    Cosine,
    Distance,
    Euclidean,
    SquaredEuclidean,
    check_distance,
)


def length(x):
    return np.sqrt(np.sum(x * x))


ORACLES = {
    SquaredEuclidean: lambda x, y: np.sum((x - y) ** 2),
    Euclidean: lambda x, y: length(x - y),
    Cosine: lambda x, y: 1 - np.sum(x * y) / (length(x) * length(y)),
}
every = pytest.mark.parametrize("distance", ORACLES)


@every
def test_against_numpy(distance):
    one = ORACLES[distance]
    check(
        distance(),
        lambda left, right: np.array(list(map(one, left, right))),
        (4, 3),
        (4, 3),
    )


@every
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1e8])
def test_equal_vectors_have_finite_gradients(distance, scale):
    (x,) = drawn((4, 3))
    values, gradients = value_and_gradients(distance(), scale * x, scale * x)
    expected = 1 if distance is Cosine and scale < 1e-20 else 0
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert np.isfinite(gradients).all()


@every
@pytest.mark.parametrize("offset", [0, 100])
def test_ranks_order_as_distances_do(distance, offset):
    (rows,) = drawn((8, 3))
    rows = rows + np.float32(offset if distance is not Cosine else 0)
    one = ORACLES[distance]
    wide = rows.astype("float64")
    expected = np.array([[one(x, y) for y in wide] for x in wide])
    rows = ops.array(rows)
    for ranks in (distance().ranks(rows), Distance.ranks(distance(), rows)):
        got = array_of(ranks)
        np.fill_diagonal(got, -9e9)  # a row's distance to itself is known
        np.fill_diagonal(expected, -9e9)
        np.testing.assert_array_equal(got.argsort(1), expected.argsort(1))


@every
def test_reload(distance):
    reloaded(distance())


def test_a_distance_of_your_own():
    @keras.saving.register_keras_serializable(package="tests")
    class Manhattan(Distance):
        def __call__(self, left, right):
            return ops.sum(ops.abs(left - right), axis=-1)

    rows = ops.array([[0.0], [1.0], [5.0]])
    np.testing.assert_array_equal(
        array_of(Manhattan().ranks(rows)), [[0, 1, 5], [1, 0, 4], [5, 4, 0]]
    )
    assert type(check_distance(Manhattan())) is Manhattan


def test_errors():
    assert type(check_distance(None)) is Euclidean
    with pytest.raises(TypeError, match=r"must be a Distance.*distance='cosine'"):
        check_distance("cosine")
