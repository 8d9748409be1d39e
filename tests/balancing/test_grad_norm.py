import numpy as np
import pytest
from gramians import drawn, walk

from lossweigh.balancing import GradNorm


def naive(norms, losses, alpha, rate):
    """The weights of each step, on lengths and losses `(steps, K)`."""
    weights, found = np.ones(norms.shape[1]), []
    for norm, loss in zip(norms, losses, strict=True):
        found.append(weights)
        speed = loss / losses[0]
        speed = speed / speed.mean()
        now = weights * norm
        sign = np.sign(now - now.mean() * speed**alpha)
        weights = np.maximum(weights - rate * sign * norm / norm.mean(), 0)
        weights = weights * len(weights) / weights.sum()
    return np.array(found), weights


@pytest.mark.parametrize(("alpha", "rate"), [(1.5, 0.025), (0.0, 0.3), (0.5, 1.0)])
def test_against_a_naive_loop(alpha, rate):
    rng = np.random.default_rng(0)
    jacobians = list(drawn(10, sizes=(4,), kinds=["lengths"], log_scale=1))
    losses = rng.uniform(0.5, 2, size=(10, 4))
    steps = [
        {"gramian": jacobian @ jacobian.T, "losses": loss}
        for jacobian, loss in zip(jacobians, losses, strict=True)
    ]
    found, state = walk(GradNorm(alpha=alpha, learning_rate=rate), steps)
    norms = np.linalg.norm(jacobians, axis=2)
    expected, last = naive(norms, losses, alpha, rate)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 4, rtol=1e-5)
    np.testing.assert_allclose(state["loss_weights"], last, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["first_losses"], losses[0], rtol=1e-6)


def test_it_balances_lengths():
    steps = [{"gramian": np.diag([1.0, 16.0]), "losses": [1.0, 1.0]}] * 300
    found, _ = walk(GradNorm(learning_rate=0.01), steps)
    np.testing.assert_allclose(found[-1], (1.6, 0.4), atol=0.05)


def test_the_scale_of_the_gradients_does_not_matter():
    gramian = np.array([[2.0, -1.0], [-1.0, 9.0]])
    steps = [{"gramian": gramian, "losses": [1.0, 2.0]}] * 5
    scaled = [{"gramian": gramian * 1e20, "losses": [1e5, 2e5]}] * 5
    np.testing.assert_allclose(
        walk(GradNorm(), steps)[0], walk(GradNorm(), scaled)[0], rtol=1e-5
    )


def test_an_absent_branch_keeps_its_state_and_the_sum_stays():
    gramian = np.diag([1.0, 4.0, 9.0])
    there = {"gramian": gramian, "losses": [1.0, 2.0, 3.0]}
    gone = {
        "gramian": np.diag([1.0, 4.0, 0.0]),
        "losses": [1.0, 2.0, np.nan],
        "present": [True, True, False],
    }
    _, before = walk(GradNorm(), [there, there])
    found, after = walk(GradNorm(), [there, there, gone])
    assert found[2, 2] == 0
    assert after["loss_weights"][2] == before["loss_weights"][2]
    assert after["first_losses"][2] == before["first_losses"][2]
    assert after["loss_weights"][0] != before["loss_weights"][0]
    assert after["loss_weights"].sum() == pytest.approx(3, rel=1e-5)
    # Its first loss is taken when it first comes.
    _, after = walk(GradNorm(), [gone, gone, there])
    np.testing.assert_allclose(after["first_losses"], (1, 2, 3))


def test_losses_and_gradients_out_of_the_ordinary():
    for losses in [(0.0, 1.0), (-1.0, 1.0), (0.0, 0.0), (1e-30, 1e30)]:
        step = {"gramian": np.zeros((2, 2)), "losses": losses}
        other = {"gramian": np.diag([1e-20, 1e30]), "losses": losses[::-1]}
        found, state = walk(GradNorm(learning_rate=5.0), [step, other] * 3)
        assert np.isfinite(found).all()
        assert all(np.isfinite(values).all() for values in state.values())
        np.testing.assert_allclose(found.sum(axis=1), 2, rtol=1e-5)


def test_arguments():
    with pytest.raises(ValueError, match="`alpha` must be at least 0"):
        GradNorm(alpha=-1)
    with pytest.raises(ValueError, match="`learning_rate` must be greater than 0"):
        GradNorm(learning_rate=0)
    config = GradNorm(alpha=0.5, learning_rate=0.1).get_config()
    assert (config["alpha"], config["learning_rate"]) == (0.5, 0.1)
