import numpy as np
import pytest
from gramians import GRAMIAN, JACOBIAN, solve, walk

from lossweigh.balancing import MGDA


@pytest.mark.smoke
def test_numbers():
    np.testing.assert_allclose(solve("MGDA", GRAMIAN), (0.6, 0.4), atol=1e-4)


def test_an_obtuse_enough_gradient_alone():
    """Where one gradient is the shortest combination it has all the weight."""
    np.testing.assert_allclose(solve("MGDA", [[1, 2], [2, 9]]), (1, 0), atol=1e-6)


def test_normalization():
    units = JACOBIAN / np.linalg.norm(JACOBIAN, axis=1, keepdims=True)
    np.testing.assert_allclose(
        solve("MGDA", GRAMIAN, normalization="l2"),
        solve("MGDA", units @ units.T),
        atol=1e-5,
    )
    losses = np.array([2.0, 0.5])
    scaled = JACOBIAN / losses[:, None]
    found, _ = walk(
        MGDA(normalization="loss"), [{"gramian": GRAMIAN, "losses": losses}]
    )
    np.testing.assert_allclose(found[0], solve("MGDA", scaled @ scaled.T), atol=1e-5)


def test_loss_normalization_of_losses_out_of_the_ordinary():
    for losses in [(0.0, 1.0), (-1.0, 1.0), (1e-20, 1e20), (1e-30, 1e-30)]:
        step = {"gramian": GRAMIAN, "losses": losses}
        found, _ = walk(MGDA(normalization="loss"), [step])
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1, abs=1e-5)


def test_a_zero_gradient_takes_all_and_shares_it_with_its_like():
    np.testing.assert_allclose(
        solve("MGDA", np.diag([0.0, 2.0, 0.0])), (0.5, 0, 0.5), atol=1e-6
    )


def test_arguments():
    with pytest.raises(ValueError, match="`normalization` must be one of 'none', 'l2'"):
        MGDA(normalization="l1")
    assert MGDA(normalization="l2").get_config()["normalization"] == "l2"
