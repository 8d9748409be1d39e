import numpy as np
import pytest
from gramians import GRAMIAN, drawn, parts, solve

from lossweigh.balancing import CAGrad


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("CAGrad", GRAMIAN), (0.7041, 0.5), atol=1e-4)
    np.testing.assert_allclose(
        solve("CAGrad", GRAMIAN, rescale=True), (0.5633, 0.4), atol=1e-4
    )


def test_without_a_radius_it_is_the_mean():
    for jacobian in drawn(20, sizes=(5,)):
        weights = solve("CAGrad", jacobian @ jacobian.T, radius=0.0)
        np.testing.assert_allclose(weights, 1 / len(jacobian), rtol=1e-6)


def test_with_a_large_radius_it_is_mgda():
    for jacobian in drawn(20, sizes=(5,), kinds=["plain", "lengths"]):
        gramian = jacobian @ jacobian.T
        found = solve("CAGrad", gramian, radius=1e4) @ jacobian
        expected = solve("MGDA", gramian) @ jacobian
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine > 1 - 1e-4


@pytest.mark.parametrize("radius", [0.1, 0.9])
def test_it_stays_in_the_ball(radius):
    for jacobian in drawn(50, sizes=(5,)):
        weights = solve("CAGrad", jacobian @ jacobian.T, radius=radius)
        mean = jacobian.mean(axis=0)
        distance = np.linalg.norm(weights @ jacobian - mean)
        slack = 1e-5 * parts(jacobian, weights)
        assert distance <= radius * np.linalg.norm(mean) * (1 + 1e-3) + slack


def test_a_zero_gradient_counts_in_the_mean():
    weights = solve("CAGrad", np.diag([4.0, 0.0]))
    np.testing.assert_allclose(weights, (0.75, 0.5), atol=1e-4)


def test_arguments():
    with pytest.raises(ValueError, match="`radius` must be at least 0"):
        CAGrad(radius=-0.5)
    config = CAGrad(radius=0.2, rescale=True).get_config()
    assert (config["radius"], config["rescale"]) == (0.2, True)
