import numpy as np
import pytest
from gramians import GRAMIAN, drawn, parts, solve, walk

from lossweigh.balancing import GradVac


def naive(jacobian, usual, order, beta):
    """The paper's loops, on the gradients themselves; moves `usual`."""
    total = np.zeros(jacobian.shape[1])
    norms = np.linalg.norm(jacobian, axis=1)
    for i, gradient in enumerate(jacobian):
        changed = gradient.copy()
        for j in order[i]:
            if j == i or norms[i] == 0 or norms[j] == 0:
                continue
            length = np.linalg.norm(changed)
            cosine = changed @ jacobian[j] / length / norms[j]
            if cosine < usual[i, j]:
                sine = np.sqrt(1 - usual[i, j] ** 2)
                step = usual[i, j] * np.sqrt(1 - cosine**2) - cosine * sine
                changed = changed + length * step / norms[j] / sine * jacobian[j]
            usual[i, j] += beta * (cosine - usual[i, j])
        total += changed
    return total


@pytest.mark.smoke
def test_numbers():
    """The first step is PCGrad's."""
    np.testing.assert_allclose(solve("GradVac", GRAMIAN), (2.2222, 1.5789), atol=1e-4)
    for jacobian in drawn(40, sizes=(2, 5)):
        gramian = jacobian @ jacobian.T
        np.testing.assert_allclose(
            solve("GradVac", gramian), solve("PCGrad", gramian), rtol=1e-3
        )


@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_against_the_naive_loops(beta):
    rng = np.random.default_rng(1)
    jacobians = list(drawn(12, sizes=(4,), kinds=["plain", "conflicting", "zero"]))
    draws = rng.uniform(size=(12, 4, 4))
    steps = [
        {"gramian": jacobian @ jacobian.T, "draws": draw}
        for jacobian, draw in zip(jacobians, draws, strict=True)
    ]
    found, state = walk(GradVac(momentum=1 - beta), steps)
    usual = np.zeros((4, 4))
    for jacobian, draw, weights in zip(jacobians, draws, found, strict=True):
        expected = naive(jacobian, usual, draw.argsort(axis=1), beta)
        error = np.linalg.norm(weights @ jacobian - expected)
        assert error < 1e-3 * parts(jacobian, weights)
    np.testing.assert_allclose(state["average_cosines"], usual, atol=1e-4)


def test_an_absent_branch_keeps_its_averages():
    gramian = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])
    there = {"gramian": gramian}
    gone = {"gramian": gramian, "present": [True, True, False]}
    _, before = walk(GradVac(), [there])
    found, after = walk(GradVac(), [there, gone])
    before, after = before["average_cosines"], after["average_cosines"]
    np.testing.assert_array_equal(after[2], before[2])
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert after[0, 1] != before[0, 1]
    assert found[1, 2] == 0


def test_identical_gradients_for_many_steps():
    found, _ = walk(GradVac(), [{"gramian": np.full((3, 3), 7.0)}] * 20)
    np.testing.assert_allclose(found, 1, atol=1e-4)


def test_opposite_gradients_after_identical_ones():
    """Asked for a cosine of nearly 1, the step stays bounded."""
    opposite = {"gramian": np.array([[1.0, -1.0], [-1.0, 1.0]])}
    found, _ = walk(GradVac(), [{"gramian": np.ones((2, 2))}] * 30 + [opposite] * 3)
    assert np.abs(found).max() < 100


def test_arguments():
    with pytest.raises(ValueError, match="`momentum` must be between 0 and 1"):
        GradVac(momentum=1.5)
    assert GradVac(momentum=0.25).get_config()["momentum"] == 0.25
    state = GradVac().initial_state(3)["average_cosines"]
    np.testing.assert_array_equal(state, np.zeros((3, 3)))
