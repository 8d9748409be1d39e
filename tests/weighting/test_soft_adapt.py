import numpy as np
import pytest
from methods import step, train, weights

import lossweigh as lw

# Slopes over the window of three: -1, -0.5, +0.25; means 2, 2.5, 1.25.
WINDOW = [(3.0, 3.0, 1.0), (2.0, 2.5, 1.25), (1.0, 2.0, 1.5)]
SLOPES = np.array([-1.0, -0.5, 0.25])
SIZES = np.array([2.0, 2.5, 1.25])


def expected(variant, beta):
    if variant == "original":
        shares = np.exp(beta * SLOPES)
    elif variant == "normalized":
        shares = np.exp(beta * SLOPES / 1.75)
    else:
        shares = SIZES * np.exp(beta * SLOPES)
    return shares / shares.sum()


@pytest.mark.smoke
@pytest.mark.parametrize("variant", ["original", "normalized", "loss_weighted"])
@pytest.mark.parametrize("beta", [0.1, 2.0, -1.0])
def test_numbers(variant, beta):
    weighter = lw.SoftAdapt(variant=variant, beta=beta, window=3)
    train(weighter, WINDOW[:2])
    np.testing.assert_allclose(weights(weighter), 1 / 3)
    total = step(weighter, *WINDOW[2])
    np.testing.assert_allclose(weights(weighter), expected(variant, beta), atol=1e-6)
    assert total == pytest.approx(np.dot(expected(variant, beta), WINDOW[2]), abs=1e-5)


def test_the_default_is_loss_weighted():
    weighter = lw.SoftAdapt(window=3)
    train(weighter, WINDOW)
    np.testing.assert_allclose(
        weights(weighter), expected("loss_weighted", 0.1), atol=1e-6
    )


def test_the_window_slides():
    weighter = lw.SoftAdapt(window=3, beta=2.0)
    train(weighter, [(9.0, 0.1, 5.0), *WINDOW])
    np.testing.assert_allclose(
        weights(weighter), expected("loss_weighted", 2.0), atol=1e-6
    )


def test_slopes_that_cancel():
    """Their signed sum is 0; the authors' code divides by it."""
    weighter = lw.SoftAdapt(variant="normalized", beta=1.0, window=2)
    train(weighter, [(1.0, 2.0), (2.0, 1.0)])
    shares = np.exp([0.5, -0.5])
    np.testing.assert_allclose(weights(weighter), shares / shares.sum(), atol=1e-6)


def test_constant_losses():
    for variant in ("original", "normalized"):
        weighter = lw.SoftAdapt(variant=variant, window=2)
        train(weighter, [(1.0, 2.0)] * 3)
        np.testing.assert_allclose(weights(weighter), 0.5)


def test_weights_wait_for_the_branch_that_is_seen_least():
    weighter = lw.SoftAdapt(window=3)
    train(weighter, [*WINDOW[:2], (1.0, 2.0, 0.0)])
    np.testing.assert_allclose(weights(weighter), 1 / 3)


def test_only_the_loss_weighted_variant_needs_positive_losses():
    assert lw.SoftAdapt().needs_positive_losses
    assert not lw.SoftAdapt(variant="original").needs_positive_losses
    weighter = lw.SoftAdapt(variant="original", beta=1.0, window=2)
    train(weighter, [(-1.0, 2.0), (-2.0, 2.0)])
    shares = np.exp([-1.0, 0.0])
    np.testing.assert_allclose(weights(weighter), shares / shares.sum(), atol=1e-6)
