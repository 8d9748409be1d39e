import numpy as np
import pytest
from gramians import GRAMIAN, solve

from lossweigh.balancing import DualProj


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("DualProj", GRAMIAN), (0.6109, 0.5), atol=1e-4)


def test_without_conflict_it_is_the_preferences():
    gramian = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.1], [0.0, 0.1, 3.0]])
    np.testing.assert_allclose(solve("DualProj", gramian), [1 / 3] * 3, atol=1e-6)
    found = solve("DualProj", gramian, preferences=[0.2, 0.3, 1.5])
    np.testing.assert_allclose(found, (0.2, 0.3, 1.5), atol=1e-6)


def test_preferences_of_the_present_keep_their_sum():
    found = solve(
        "DualProj", np.eye(3), [True, False, True], preferences=[0.2, 0.5, 0.3]
    )
    np.testing.assert_allclose(found, (0.4, 0, 0.6), atol=1e-6)


def test_lengths_far_apart_need_a_smaller_ridge():
    """The short gradient is protected only if the ridge leaves it something."""
    gramian = np.array([[1.0, -1e-3], [-1e-3, 4e-6]])
    for ridge, protected in [(1e-4, False), (1e-8, True)]:
        weights = solve("DualProj", gramian, ridge=ridge)
        rise = (gramian @ weights)[1] / 2e-3
        assert (rise > -1e-2) == protected


def test_arguments():
    with pytest.raises(ValueError, match="`ridge` must be at least 0"):
        DualProj(ridge=-1)
    with pytest.raises(ValueError, match="`preferences` must hold finite numbers"):
        DualProj(preferences=[1, -1])
    with pytest.raises(ValueError, match="`preferences` must hold one number for each"):
        DualProj(preferences=[1, 1, 1]).solve(np.eye(2))
    config = DualProj(preferences=[1, 2], ridge=0.1).get_config()
    assert (config["preferences"], config["ridge"]) == ([1, 2], 0.1)
