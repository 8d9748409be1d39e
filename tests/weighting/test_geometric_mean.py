import numpy as np
import pytest
from methods import step, weights

import lossweigh as lw


@pytest.mark.smoke
def test_numbers():
    weighter = lw.GeometricMean()
    assert step(weighter, 1, 2, 4) == pytest.approx(2.0, abs=1e-5)
    np.testing.assert_allclose(
        weights(weighter), [0.666667, 0.333333, 0.166667], atol=1e-5
    )


def test_many_branches_neither_overflow_nor_underflow():
    """The product would be 1e320, and 1e-960."""
    assert step(lw.GeometricMean(), *[1e10] * 32) == pytest.approx(1e10, rel=1e-4)
    assert step(lw.GeometricMean(), *[1e-30] * 32) == pytest.approx(1e-30, rel=1e-4)


def test_an_absent_branch_is_no_factor():
    weighter = lw.GeometricMean()
    assert step(weighter, 2, 8, 0) == pytest.approx(4.0, abs=1e-5)
    np.testing.assert_allclose(weights(weighter), [1.0, 0.25, 1.0], atol=1e-5)
