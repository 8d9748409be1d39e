import numpy as np
import pytest
from gramians import GRAMIAN, drawn, solve

from lossweigh.balancing import NashMTL


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("NashMTL", GRAMIAN), (0.5915, 0.4071), atol=1e-4)
    np.testing.assert_allclose(
        solve("NashMTL", GRAMIAN, max_norm=1.0), (0.4182, 0.2878), atol=1e-4
    )


def test_its_equation():
    """Its positive solution is unique, so the equation fixes the answer."""
    kinds = ["plain", "conflicting", "lengths"]
    for jacobian in drawn(500, sizes=(2, 5, 16), kinds=kinds):
        gramian = jacobian @ jacobian.T
        weights = solve("NashMTL", gramian).astype(float)
        assert (weights > 0).all()
        error = gramian @ weights - 1 / weights
        assert (np.abs(error) < 1e-3 * (np.abs(gramian) @ weights)).all()


def test_the_combined_gradient_has_length_sqrt_k():
    for jacobian in drawn(40, sizes=(2, 5), kinds=["plain", "conflicting", "lengths"]):
        weights = solve("NashMTL", jacobian @ jacobian.T)
        length = np.linalg.norm(weights @ jacobian)
        assert length == pytest.approx(len(jacobian) ** 0.5, rel=1e-3)
        bounded = solve("NashMTL", jacobian @ jacobian.T, max_norm=0.5)
        assert np.linalg.norm(bounded @ jacobian) == pytest.approx(0.5, rel=1e-3)


def test_a_bound_that_is_not_reached():
    np.testing.assert_allclose(
        solve("NashMTL", GRAMIAN, max_norm=2.0), solve("NashMTL", GRAMIAN), rtol=1e-6
    )


def test_zero_identical_and_opposite_gradients():
    np.testing.assert_allclose(
        solve("NashMTL", np.diag([0.0, 4.0])), (0, 0.5), atol=1e-4
    )
    identical = solve("NashMTL", np.full((3, 3), 4.0))
    np.testing.assert_allclose(identical, 1 / 12**0.5, rtol=1e-3)
    opposite = solve("NashMTL", [[4.0, -4.0], [-4.0, 4.0]])
    assert 0 < opposite.max() < 200


def test_arguments():
    with pytest.raises(ValueError, match="`max_norm` must be greater than 0"):
        NashMTL(max_norm=0)
    assert NashMTL().get_config()["max_norm"] is None
