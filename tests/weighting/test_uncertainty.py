import numpy as np
import pytest
from gradients import total_and_gradients
from learned import assert_gradient_is_that_of_the_total
from methods import array, rows, step, weights

import lossweigh as lw

LOG = np.log([1.0, 2.0, 4.0])


def test_value_at_the_start():
    assert step(lw.Uncertainty(), 1, 2, 4) == pytest.approx(3.5, abs=1e-5)


def test_value_and_weights_at_the_optimum():
    weighter = lw.Uncertainty()
    weighter.build([(None,)] * 3)
    weighter.parameters.assign(LOG)
    assert step(weighter, 1, 2, 4) == pytest.approx(2.539721, abs=1e-5)
    np.testing.assert_allclose(weights(weighter), [0.5, 0.25, 0.125], atol=1e-6)
    np.testing.assert_allclose(array(weighter.parameters), LOG, atol=1e-4)
    np.testing.assert_allclose(array(weighter.sigma), np.sqrt([1, 2, 4]), atol=1e-4)


def test_a_first_step_is_one_learning_rate():
    """dT/ds = .5 - .5 exp(-s) L: 0, -.5, -1.5 at s = 0."""
    weighter = lw.Uncertainty(learning_rate=0.1)
    step(weighter, 1, 2, 4)
    np.testing.assert_allclose(array(weighter.parameters), [0, 0.1, 0.1], atol=1e-5)


def test_task_types():
    weighter = lw.Uncertainty(["classification", "regression"])
    assert step(weighter, 1, 2) == pytest.approx(2.0)
    weighter = lw.Uncertainty(
        {"b": "classification"},
        branches=["a", "b"],
        inferred_task_types=["classification", "regression"],
    )
    assert step(weighter, 1, 2) == pytest.approx(3.0)


def test_task_types_that_do_not_fit():
    with pytest.raises(ValueError, match="one type for each of the 2 branches"):
        lw.Uncertainty(["regression"])(rows(1, 2))
    with pytest.raises(
        ValueError, match="`task_types` must be one of 'regression', 'cl"
    ):
        lw.Uncertainty(["gaussian"])
    with pytest.raises(ValueError, match=r"may only have the names \['a'\]"):
        lw.Uncertainty({"b": "regression"}, branches=["a"])(rows(1))


def test_gradient():
    assert_gradient_is_that_of_the_total(
        lw.Uncertainty(["regression", "classification", "regression"])
    )


def test_a_huge_first_loss_does_not_hold_the_parameter_back():
    """Adam's second moment would remember a gradient of 500 for 3000 steps."""
    weighter = lw.Uncertainty(learning_rate=0.1)
    weighter.build([(2,)])
    for _ in range(200):
        step(weighter, 1000.0)
    assert array(weighter.sigma)[0] == pytest.approx(np.sqrt(1000.0), rel=0.05)


def test_a_negative_loss_does_not_run_away():
    weighter = lw.Uncertainty()
    total, _ = total_and_gradients(weighter, [[-2.0, -2.0], [1.0, 1.0]])
    assert total == pytest.approx(0.5 * -2 + 0.5 * 1)
    np.testing.assert_array_equal(array(weighter.iterations), [0, 1])
