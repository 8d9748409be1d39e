import numpy as np
import pytest
from learned import MEANS, assert_gradient_is_that_of_the_total, settle
from methods import array, step

import lossweigh as lw


def test_value_at_the_start():
    """7/3, and the barrier: .5 * 7/3 * 3 log 3."""
    total = 7 / 3 + 3.5 * np.log(3)
    assert step(lw.SumToOne(), 1, 2, 4) == pytest.approx(total, abs=1e-5)
    assert step(lw.SumToOne(barrier=0), 1, 2, 4) == pytest.approx(7 / 3, abs=1e-5)


def test_gradient():
    assert_gradient_is_that_of_the_total(lw.SumToOne(), scale=np.mean(MEANS))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_optimum_is_that_of_loss_weighter(scale):
    """w_k = barrier mean(L) / (L_k - l), here for L = (1, 2)."""
    below = 0.75 - np.sqrt(0.25 + 0.75**2)
    expected = 0.75 / (np.array([1.0, 2.0]) - below)
    got = settle(lw.SumToOne(), np.array([1.0, 2.0]) * scale, steps=400)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_it_collapses_without_the_barrier():
    got = settle(lw.SumToOne(barrier=0, learning_rate=0.1), [1.0, 2.0], steps=200)
    assert got[1] < 1e-2


def test_nothing_moves_where_a_branch_is_absent():
    weighter = lw.SumToOne()
    step(weighter, 1, 2, 0)
    np.testing.assert_array_equal(array(weighter.parameters), [0, 0, 0])
    np.testing.assert_array_equal(array(weighter.iterations), [0, 0, 0])
