import numpy as np
import pytest
from learned import assert_gradient_is_that_of_the_total, settle
from methods import array, step

import lossweigh as lw


def test_value_at_the_start():
    assert step(lw.RevisedUncertainty(), 1, 2, 4) == pytest.approx(5.579442, abs=1e-5)


def test_value_elsewhere():
    """c^2 = 2, 4: .5 * 3 / 2 + log 3 + .5 * 5 / 4 + log 5."""
    weighter = lw.RevisedUncertainty()
    weighter.build([(None,)] * 2)
    weighter.parameters.assign(np.log([2.0, 4.0]))
    assert step(weighter, 3, 5) == pytest.approx(1.375 + np.log(15), abs=1e-5)


def test_gradient():
    assert_gradient_is_that_of_the_total(lw.RevisedUncertainty())


def test_optimum():
    """0 = 1 / (1 + c^2) - .5 L / c^4: for L = 4, c^4 - 2 c^2 - 2 = 0."""
    got = settle(lw.RevisedUncertainty(), [4.0], steps=300)
    assert got[0] == pytest.approx(0.5 / (1 + np.sqrt(3)), rel=1e-2)


def test_the_total_is_never_negative():
    weighter = lw.RevisedUncertainty()
    weighter.build([(None,)])
    weighter.parameters.assign([-60.0])
    assert step(weighter, 1e-30) >= 0
    assert np.isfinite(array(weighter.parameters)).all()
