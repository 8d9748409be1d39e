import numpy as np
import pytest
from gramians import solve, walk

from lossweigh.balancing import LearningRateAnnealing


@pytest.mark.parametrize("reference", [0, 2])
def test_against_a_naive_loop(reference):
    sizes = np.random.default_rng(0).uniform(0.1, 10, size=(8, 3))
    balancer = LearningRateAnnealing(reference=reference, momentum=0.8)
    found, state = walk(
        balancer, [{"gramian": np.eye(3), "mean_abs": size} for size in sizes]
    )
    expected = np.ones(3)
    for size, weights in zip(sizes, found, strict=True):
        expected = 0.8 * expected + 0.2 * size[reference] / size
        np.testing.assert_allclose(weights, expected, rtol=1e-5)
    np.testing.assert_allclose(state["loss_weights"], expected, rtol=1e-5)
    np.testing.assert_allclose(found[:, reference], 1, rtol=1e-6)


def test_solve_takes_lengths():
    weights = solve("LearningRateAnnealing", np.diag([4.0, 1.0, 0.0]), momentum=0.5)
    np.testing.assert_allclose(weights, (1, 1.5, 1))


def test_a_reference_by_name():
    arguments = {"reference": "b", "branches": ["a", "b"], "momentum": 0.0}
    weights = solve("LearningRateAnnealing", np.diag([4.0, 36.0]), **arguments)
    np.testing.assert_allclose(weights, (3, 1))


def test_absent_branches_keep_their_weights():
    step = {"gramian": np.eye(3), "mean_abs": [1.0, 2.0, 4.0]}
    _, before = walk(LearningRateAnnealing(), [step])
    gone = {**step, "present": [True, False, True]}
    found, after = walk(LearningRateAnnealing(), [step, gone])
    before, after = before["loss_weights"], after["loss_weights"]
    assert after[1] == before[1]
    assert after[2] != before[2]
    assert found[1, 1] == 0
    no_reference = {**step, "present": [False, True, True]}
    _, after = walk(LearningRateAnnealing(), [step, no_reference])
    np.testing.assert_array_equal(after["loss_weights"], before)


def test_a_gradient_that_all_but_vanishes():
    step = {"gramian": np.eye(2), "mean_abs": [1e15, 1e-20]}
    found, _ = walk(LearningRateAnnealing(momentum=0.0), [step])
    np.testing.assert_allclose(found[0], (1, 1e6))


def test_arguments():
    with pytest.raises(ValueError, match="`momentum` must be between 0 and 1"):
        LearningRateAnnealing(momentum=-1)
    with pytest.raises(ValueError, match="`reference` must be a whole number of at"):
        LearningRateAnnealing(reference=-1)
    with pytest.raises(ValueError, match="less than the number of branches, 2"):
        LearningRateAnnealing(reference=2).initial_state(2)
    with pytest.raises(ValueError, match="`reference` may only have the names"):
        LearningRateAnnealing(reference="c", branches=["a", "b"]).initial_state(2)
    config = LearningRateAnnealing(reference="a", momentum=0.5).get_config()
    assert (config["reference"], config["momentum"]) == ("a", 0.5)
