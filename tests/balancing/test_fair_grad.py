import numpy as np
import pytest
from gramians import GRAMIAN, drawn, solve

from lossweigh.balancing import FairGrad


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(1.0, (0.5915, 0.4071)), (2.0, (0.4714, 0.3195)), (0.5, (0.7428, 0.5254))],
)
def test_numbers(alpha, expected):
    np.testing.assert_allclose(
        solve("FairGrad", GRAMIAN, alpha=alpha), expected, atol=1e-4
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0, 8.0])
def test_its_equation(alpha):
    """Its solution is unique, so the equation is all there is to check."""
    for jacobian in drawn(60, sizes=(5, 16), kinds=["plain", "conflicting", "lengths"]):
        gramian = jacobian @ jacobian.T
        weights = solve("FairGrad", gramian, alpha=alpha).astype(float)
        assert (weights > 0).all()
        error = gramian @ weights - weights ** (-1 / alpha)
        assert (np.abs(error) < 1e-3 * (np.abs(gramian) @ weights)).all()


def test_a_small_alpha_is_the_sum():
    weights = solve("FairGrad", [[1.1, -0.2], [-0.2, 1.4]], alpha=0.02)
    np.testing.assert_allclose(weights, 1, atol=0.01)


def test_the_power_of_the_scale():
    once = solve("FairGrad", GRAMIAN, alpha=2.0)
    scaled = solve("FairGrad", GRAMIAN * 1e6, alpha=2.0)
    np.testing.assert_allclose(scaled, once * 1e3 ** (-4 / 3), rtol=1e-4)


def test_arguments():
    with pytest.raises(ValueError, match="`alpha` must be greater than 0"):
        FairGrad(alpha=0)
    assert FairGrad(alpha=3.0).get_config()["alpha"] == 3.0
