import numpy as np
import pytest
from gramians import array, compiled, drawn
from keras import ops
from scipy.optimize import nnls

from lossweigh.balancing import _cosines, _solvers


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values), dtype)


nonnegative = compiled(_solvers.nonnegative)
shortest = compiled(_solvers.min_norm)


@pytest.mark.parametrize("num", [1, 5, 32])
def test_nonnegative_problems_against_scipy(num):
    """`min 1/2 x'Qx - b'x` is `min ||L'x - L^-1 b||` with `Q = L L'`."""
    rng = np.random.default_rng(num)
    for _ in range(20):
        root = rng.normal(size=(num, num + 2))
        matrix = root @ root.T
        scale = np.sqrt(np.diag(matrix))
        matrix = matrix / scale / scale[:, None] + 1e-3 * np.eye(num)
        targets = rng.normal(size=(3, num))
        found = array(nonnegative(tensor(matrix), tensor(targets)))
        lower = np.linalg.cholesky(matrix)
        for x, target in zip(found, targets, strict=True):
            expected, _ = nnls(lower.T, np.linalg.solve(lower, target))
            np.testing.assert_allclose(x, expected, atol=2e-3 * expected.max() + 1e-6)


def test_nonnegative_problems_where_pivoting_all_at_once_cycles():
    """The single exchanges after the block ones must end every one of these."""
    rng = np.random.default_rng(0)
    num = 12
    for _ in range(100):
        # Strongly coupled, barely positive definite.
        root = rng.normal(size=(num, 4))
        matrix = root @ root.T
        scale = np.sqrt(np.diag(matrix))
        matrix = matrix / scale / scale[:, None] + 1e-3 * np.eye(num)
        targets = rng.normal(size=(4, num))
        x = array(nonnegative(tensor(matrix), tensor(targets))).astype(float)
        slack = x @ matrix - targets
        assert (x >= 0).all()
        size = 1 + np.abs(x) @ np.abs(matrix)
        assert (slack > -1e-4 * size).all()
        assert (np.abs(np.minimum(x, slack)) < 1e-3 * size).all()


def test_the_shortest_combination_against_scipy():
    """The nonnegative least squares of `(J' a, 1' a)` to `(0, 1)`, up to a factor."""
    for jacobian in drawn(200, seed=3):
        gramian = jacobian @ jacobian.T
        weights = array(shortest(tensor(gramian)))
        unit = np.abs(jacobian).max()
        rows = np.vstack([jacobian.T / unit, np.ones(len(jacobian))])
        expected, _ = nnls(rows, np.append(np.zeros(len(rows) - 1), 1.0))
        expected /= expected.sum()
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1, abs=1e-5)
        error = np.linalg.norm((weights - expected) @ jacobian)
        assert error < 1e-3 * np.linalg.norm(jacobian, axis=1).max()


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e15])
def test_lengths_and_cosines(scale):
    jacobian = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 3.0], [-2.0, -2.0]]) * scale
    gramian = jacobian @ jacobian.T
    lengths, cosines, here = map(array, _cosines.norms_and_cosines(tensor(gramian)))
    np.testing.assert_allclose(lengths, [2**0.5 * scale, 1, 3 * scale, 8**0.5 * scale])
    np.testing.assert_array_equal(here, [True, False, True, True])
    half = 0.5**0.5
    expected = [[1, 0, half, -1], [0] * 4, [half, 0, 1, -half], [-1, 0, -half, 1]]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_absent_rows_may_hold_anything():
    gramian = np.full((3, 3), np.nan)
    gramian[1:, 1:] = [[4, 2], [2, 9]]
    present = tensor([False, True, True], "bool")
    lengths, cosines, here = map(
        array, _cosines.norms_and_cosines(tensor(gramian), present)
    )
    np.testing.assert_array_equal(here, [False, True, True])
    np.testing.assert_allclose(lengths, [1, 2, 3])
    np.testing.assert_allclose(cosines[1:, 1:], [[1, 1 / 3], [1 / 3, 1]], rtol=1e-6)
    np.testing.assert_array_equal(cosines[0], 0)


def test_preferences():
    np.testing.assert_allclose(array(_cosines.share_preferences(None, 4, None)), 0.25)
    present = tensor([True, False, True], "bool")
    np.testing.assert_allclose(
        array(_cosines.share_preferences(None, 3, present)), [0.5, 0, 0.5]
    )
    np.testing.assert_allclose(
        array(_cosines.share_preferences([1.0, 2.0, 3.0], 3, present)), [1.5, 0, 4.5]
    )
