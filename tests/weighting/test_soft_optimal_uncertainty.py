import numpy as np
import pytest
from methods import step, weights

import lossweigh as lw


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, (0.481024, 0.291756, 0.227220)), (0.5, (0.628532, 0.231224, 0.140244))],
)
def test_numbers(temperature, expected):
    weighter = lw.SoftOptimalUncertainty(temperature=temperature)
    total = step(weighter, 1, 2, 4)
    np.testing.assert_allclose(weights(weighter), expected, atol=1e-5)
    assert total == pytest.approx(np.dot(expected, (1, 2, 4)), abs=1e-5)


def test_a_vanishing_loss_takes_all_and_stays_finite():
    weighter = lw.SoftOptimalUncertainty()
    step(weighter, 1e-30, 1)
    np.testing.assert_array_equal(weights(weighter), [1, 0])
