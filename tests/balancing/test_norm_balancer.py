import numpy as np
import pytest
from gramians import solve, walk

from lossweigh.balancing import NormBalancer


@pytest.mark.smoke
def test_numbers():
    """Losses |x - 1| and 100 |x + 1| at 0: the gradients are -1 and 100."""
    gramian = np.array([[1.0, -100.0], [-100.0, 1e4]])
    gradients = np.array([-1.0, 100.0])
    assert gradients.sum() == 99
    assert solve("NormBalancer", gramian) @ gradients == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("total", [1.0, 3.0, None])
@pytest.mark.parametrize("preferences", [None, [1.0, 3.0, 0.0]])
def test_against_a_naive_loop(total, preferences):
    norms = np.random.default_rng(0).uniform(0.1, 10, size=(8, 3))
    arguments = {"preferences": preferences, "total_norm": total, "momentum": 0.9}
    found, _ = walk(
        NormBalancer(**arguments), [{"gramian": np.diag(n**2)} for n in norms]
    )
    share = np.array(preferences or [1, 1, 1])
    for t, weights in enumerate(found):
        past = 0.9 ** np.arange(t, -1, -1.0)
        averages = (past[:, None] * norms[: t + 1]).sum(axis=0) / past.sum()
        length = averages.sum() if total is None else total
        expected = length * share / share.sum() / averages
        np.testing.assert_allclose(weights, expected, rtol=1e-4)


def test_an_absent_branch_keeps_its_average_and_the_others_share():
    there = {"gramian": np.diag([1.0, 4.0, 16.0])}
    gone = {"gramian": np.diag([1.0, 4.0, 0.0]), "present": [True, True, False]}
    found, state = walk(NormBalancer(momentum=0.5), [there, gone])
    np.testing.assert_allclose(found[1], (1 / 2, 1 / 4, 0), rtol=1e-5)
    np.testing.assert_allclose(state["sums"], (1.5, 3, 4), rtol=1e-6)
    np.testing.assert_allclose(state["counts"], (1.5, 1.5, 1), rtol=1e-6)


def test_a_branch_that_has_never_had_a_gradient():
    found, _ = walk(NormBalancer(), [{"gramian": np.diag([0.0, 4.0])}] * 2)
    np.testing.assert_allclose(found, [(0, 0.25)] * 2, rtol=1e-5)


def test_arguments():
    with pytest.raises(ValueError, match="`momentum` must be between 0 and 1"):
        NormBalancer(momentum=2)
    with pytest.raises(ValueError, match="`total_norm` must be greater than 0"):
        NormBalancer(total_norm=0)
    with pytest.raises(TypeError, match="`preferences` must be a list with one"):
        NormBalancer(preferences=3)
    with pytest.raises(ValueError, match="`preferences` must hold one number for"):
        NormBalancer(preferences=[1]).solve(np.eye(2))
    config = NormBalancer(
        preferences=(1, 2), total_norm=None, momentum=0.5
    ).get_config()
    assert config["preferences"] == [1, 2]
    assert (config["total_norm"], config["momentum"]) == (None, 0.5)
