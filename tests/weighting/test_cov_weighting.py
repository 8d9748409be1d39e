import numpy as np
import pytest
from methods import array, drawn_losses, step, weights

import lossweigh as lw

STEPS = [(1, 2, 4), (0.9, 1.5, 3.9), (0.8, 1.2, 3.8), (0.75, 1.0, 3.9)]


@pytest.mark.smoke
def test_numbers():
    weighter = lw.CoVWeighting()
    got = []
    for losses in STEPS:
        total = step(weighter, *losses)
        got.append(weights(weighter))
        assert total == pytest.approx(np.dot(got[-1], losses), abs=1e-5)
    np.testing.assert_allclose(got[:2], np.full((2, 3), 1 / 3), atol=1e-6)
    np.testing.assert_allclose(got[2], (0.252858, 0.686327, 0.060816), atol=1e-5)
    np.testing.assert_allclose(got[3], (0.280448, 0.656279, 0.063273), atol=1e-5)


def test_against_statistics_of_the_whole_history():
    losses = drawn_losses(num_steps=8)
    weighter = lw.CoVWeighting()
    ratios = [np.ones(3)]
    for t, loss in enumerate(losses):
        step(weighter, *loss)
        if t > 0:
            ratios.append(loss / losses[:t].mean(axis=0))
        if t > 1:
            past = np.array(ratios[:t])
            variation = np.sqrt(past.var(axis=0) + 1e-8) / past.mean(axis=0)
            expected = variation / variation.sum()
            np.testing.assert_allclose(weights(weighter), expected, rtol=1e-4)


def test_constant_losses_weigh_equally():
    weighter = lw.CoVWeighting()
    for _ in range(4):
        step(weighter, 1, 5)
    np.testing.assert_allclose(weights(weighter), 0.5, atol=1e-5)


def test_each_branch_counts_its_own_steps():
    weighter = lw.CoVWeighting()
    for losses in [(1, 2), (1, 0), (1, 3)]:
        step(weighter, *losses)
    np.testing.assert_array_equal(array(weighter.seen), [3, 2])
    np.testing.assert_allclose(array(weighter.mean_loss), [1, 2.5])
    np.testing.assert_allclose(weights(weighter), 0.5)
