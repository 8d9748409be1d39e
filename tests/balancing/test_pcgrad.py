import numpy as np
import pytest
from gramians import GRAMIAN, array, drawn, parts, solve, walk
from keras import ops

from lossweigh.balancing import PCGrad


def naive(jacobian, order):
    """The paper's loops, on the gradients themselves."""
    total = np.zeros(jacobian.shape[1])
    for i, gradient in enumerate(jacobian):
        changed = gradient.copy()
        for j in order[i]:
            product = changed @ jacobian[j]
            if j != i and product < 0:
                changed -= product / (jacobian[j] @ jacobian[j]) * jacobian[j]
        total += changed
    return total


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("PCGrad", GRAMIAN), (2.2222, 1.5789), atol=1e-4)


def test_against_the_naive_loops_in_drawn_orders():
    rng = np.random.default_rng(0)
    for jacobian in drawn(60, sizes=(2, 5)):
        num = len(jacobian)
        draws = rng.uniform(size=(num, num))
        order = draws.argsort(axis=1)
        expected = naive(jacobian, order)
        step = {"gramian": jacobian @ jacobian.T, "draws": draws}
        found, _ = walk(PCGrad(), [step])
        error = np.linalg.norm(found[0] @ jacobian - expected)
        assert error < 1e-4 * parts(jacobian, found[0])


def test_an_order_can_be_given():
    for jacobian in drawn(1, sizes=(4,), kinds=["conflicting"], log_scale=0):
        order = np.array([[3, 2, 1, 0]] * 4)
        weights = PCGrad().solve(jacobian @ jacobian.T, None, ops.array(order))
        np.testing.assert_allclose(
            array(weights) @ jacobian, naive(jacobian, order), atol=1e-3
        )
        other = array(PCGrad().solve(jacobian @ jacobian.T))
        assert np.abs(array(weights) - other).max() > 1e-3


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_parallel_gradients(cosine):
    expected = 1.0 if cosine > 0 else 2.0
    gramian = np.array([[1.0, cosine], [cosine, 1.0]])
    np.testing.assert_allclose(solve("PCGrad", gramian), [expected] * 2, atol=1e-5)
