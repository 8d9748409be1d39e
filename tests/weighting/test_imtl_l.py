import numpy as np
import pytest
from learned import assert_gradient_is_that_of_the_total, settle
from methods import array, step, weights

import lossweigh as lw


def test_value_at_the_start():
    assert step(lw.IMTLL(), 1, 2, 4) == pytest.approx(7.0, abs=1e-5)


def test_value_and_weights_at_the_optimum():
    """exp(s) = 1 / L: the total is 3 + log 8."""
    weighter = lw.IMTLL()
    weighter.build([(None,)] * 3)
    weighter.parameters.assign(-np.log([1.0, 2.0, 4.0]))
    assert step(weighter, 1, 2, 4) == pytest.approx(3 + np.log(8), abs=1e-5)
    np.testing.assert_allclose(weights(weighter), [1, 0.5, 0.25], atol=1e-6)
    np.testing.assert_allclose(
        array(weighter.parameters), -np.log([1, 2, 4]), atol=1e-4
    )


def test_gradient():
    assert_gradient_is_that_of_the_total(lw.IMTLL())


def test_it_finds_the_optimum():
    got = settle(lw.IMTLL(learning_rate=0.05), [1.0, 2.0, 50.0], steps=500)
    np.testing.assert_allclose(got, [1, 1 / 2, 1 / 50], rtol=0.02)
