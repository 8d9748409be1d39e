import numpy as np
import pytest
from methods import rows, step, weights
from scipy.special import logsumexp, softmax

import lossweigh as lw


@pytest.mark.smoke
def test_numbers():
    weighter = lw.SmoothTchebycheff()
    assert step(weighter, 1, 2, 4) == pytest.approx(1.333465, abs=1e-5)
    expected = softmax(np.array([1, 2, 4]) / 0.3) / 3
    np.testing.assert_allclose(weights(weighter), expected, atol=1e-6)


def test_preferences_and_ideal_losses():
    weighter = lw.SmoothTchebycheff(
        smoothing=0.5, preferences=[2, 1, 1], ideal_losses=[0.5, 0, -1]
    )
    shares = np.array([0.5, 0.25, 0.25])
    heights = shares * (np.array([1, 2, 4]) - np.array([0.5, 0, -1]))
    expected = 0.5 * logsumexp(heights / 0.5)
    assert step(weighter, 1, 2, 4) == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(
        weights(weighter), shares * softmax(heights / 0.5), atol=1e-6
    )


def test_little_smoothing_is_the_maximum():
    assert step(lw.SmoothTchebycheff(smoothing=1e-6), 3, 9) == pytest.approx(4.5)


def test_an_absent_branch_is_no_candidate():
    assert step(lw.SmoothTchebycheff(), -6, 0, -9) == pytest.approx(-2, abs=1e-4)
    assert step(lw.SmoothTchebycheff(), 0, 0) == 0


def test_one_number_for_each_branch():
    with pytest.raises(ValueError, match=r"`preferences` .* each of the 2 branches"):
        lw.SmoothTchebycheff(preferences=[1, 2, 3])(rows(1, 2))
    with pytest.raises(ValueError, match=r"`ideal_losses` .* each of the 2 branches"):
        lw.SmoothTchebycheff(ideal_losses=[1])(rows(1, 2))
