import numpy as np
import pytest
from gramians import GRAMIAN, JACOBIAN, drawn, parts, solve


def naive(jacobian):
    """The paper's formula, on the gradients themselves."""
    norms = np.linalg.norm(jacobian, axis=1, keepdims=True)
    units = np.divide(jacobian, norms, where=norms > 0, out=np.zeros_like(jacobian))
    best = np.linalg.pinv(units) @ (norms[:, 0] > 0)
    length = np.linalg.norm(best)
    if length < 1e-6:  # no direction: opposite gradients
        return np.zeros_like(best)
    best /= length
    return (jacobian @ best).sum() * best


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(
        solve("ConFIG", GRAMIAN) @ JACOBIAN, (0.1588, 2.0706, 2.0706), atol=1e-4
    )


def test_against_the_formula():
    for jacobian in drawn(50):
        weights = solve("ConFIG", jacobian @ jacobian.T)
        error = np.linalg.norm(weights @ jacobian - naive(jacobian))
        assert error <= 1e-3 * parts(jacobian, weights)


@pytest.mark.parametrize(("cosine", "expected"), [(1.0, 1.0), (-1.0, 0.0)])
def test_parallel_gradients(cosine, expected):
    weights = solve("ConFIG", [[2.0, 2 * cosine], [2 * cosine, 2.0]])
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_orthogonal_gradients_of_one_length_keep_their_weights():
    np.testing.assert_allclose(solve("ConFIG", 3 * np.eye(4)), 1, rtol=1e-5)
