import numpy as np
import pytest
from gramians import GRAMIAN, solve

from lossweigh.balancing import AlignedMTL


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(
        solve("AlignedMTL", GRAMIAN), (0.5591, 0.4083), atol=1e-4
    )


def test_orthogonal_gradients_become_as_long_as_the_shortest():
    weights = solve("AlignedMTL", np.diag([1.0, 4.0, 25.0]), preferences=[1, 2, 3])
    np.testing.assert_allclose(weights, (1, 1, 0.6), rtol=1e-5)


def test_zero_and_identical_gradients():
    np.testing.assert_allclose(solve("AlignedMTL", np.zeros((2, 2))), 0.5)
    np.testing.assert_allclose(
        solve("AlignedMTL", np.diag([0.0, 9.0])), (0, 0.5), atol=1e-6
    )
    np.testing.assert_allclose(solve("AlignedMTL", np.ones((3, 3))), 1 / 3, rtol=1e-5)


def test_arguments():
    with pytest.raises(ValueError, match="`preferences` must hold at least one number"):
        AlignedMTL(preferences=[0, 0])
    with pytest.raises(ValueError, match="`preferences` must hold one number for each"):
        AlignedMTL(preferences=[1, 2]).solve(np.eye(3))
    assert AlignedMTL(preferences=(1, 2)).get_config()["preferences"] == [1, 2]
