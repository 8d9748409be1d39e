import numpy as np
import pytest
from gramians import GRAMIAN, drawn, parts, solve


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("IMTLG", GRAMIAN), (0.5923, 0.4077), atol=1e-4)


def test_projections_are_equal():
    for jacobian in drawn(60, sizes=(2, 5), kinds=["plain", "conflicting", "lengths"]):
        weights = solve("IMTLG", jacobian @ jacobian.T)
        units = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        projections = units @ (weights @ jacobian)
        assert np.ptp(projections) < 1e-3 * parts(jacobian, weights)
        assert abs(weights.sum() - 1) < 1e-4 * np.abs(weights).sum()


def test_lengths_far_apart():
    """Orthogonal gradients: weights are inverse to the lengths, however short."""
    lengths = np.array([1e-6, 1.0, 1e5])
    expected = 1 / lengths / (1 / lengths).sum()
    np.testing.assert_allclose(solve("IMTLG", np.diag(lengths**2)), expected, rtol=1e-4)


def test_identical_and_opposite_gradients():
    np.testing.assert_allclose(solve("IMTLG", np.full((3, 3), 5.0)), 1 / 3, rtol=1e-4)
    np.testing.assert_allclose(solve("IMTLG", [[1.0, -1.0], [-1.0, 1.0]]), 0)
