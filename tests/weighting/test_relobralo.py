import numpy as np
import pytest
from methods import array, drawn_losses, step, weights

import lossweigh as lw


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("keep", "expected"),
    [(1.0, (0.987513, 1.011849, 1.000638)), (0.0, (0.836269, 1.087471, 1.076260))],
)
def test_numbers(keep, expected):
    """With a keep_probability of 1 the look back never happens, with 0 always."""
    weighter = lw.ReLoBRaLo(keep_probability=keep)
    weighter.build([(None,)] * 3)
    weighter.first.assign([4.0, 4.0, 8.0])
    weighter.last.assign([2.0, 2.0, 5.0])
    total = step(weighter, 1, 2, 4)
    np.testing.assert_allclose(weights(weighter), expected, atol=1e-5)
    assert total == pytest.approx(np.dot(expected, (1, 2, 4)), abs=1e-4)
    np.testing.assert_array_equal(array(weighter.first), [4, 4, 8])
    np.testing.assert_array_equal(array(weighter.last), [1, 2, 4])


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_against_a_naive_loop(keep):
    losses = drawn_losses(num_steps=6)
    weighter = lw.ReLoBRaLo(momentum=0.7, keep_probability=keep, temperature=0.3)
    now = np.ones(3)
    for t, loss in enumerate(losses):
        if t > 0:
            first = 3 * softmax(loss / (0.3 * losses[0]))
            last = 3 * softmax(loss / (0.3 * losses[t - 1]))
            now = 0.7 * (keep * now + (1 - keep) * first) + 0.3 * last
        step(weighter, *loss)
        np.testing.assert_allclose(weights(weighter), now, rtol=1e-4)


def test_how_often_it_looks_back():
    """L_0 = (1, 2), then (2, 2) for ever: a look back shows as another weight."""
    weighter = lw.ReLoBRaLo(momentum=1.0, keep_probability=0.7, seed=1)
    weighter.build([(None,)] * 2)
    weighter.first.assign([1.0, 2.0])
    weighter.last.assign([2.0, 2.0])
    looked = 0
    for _ in range(200):
        weighter.current.assign([1.0, 1.0])
        step(weighter, 2, 2)
        looked += abs(weights(weighter)[0] - 1) > 0.1
    assert looked / 200 == pytest.approx(0.3, abs=0.1)


def test_an_absent_branch_keeps_its_weight_and_the_sum_stays():
    weighter = lw.ReLoBRaLo(momentum=0.5, seed=0)
    for losses in [(1, 1, 1), (1, 0.5, 0.2), (0.7, 0, 0.1), (0.7, 0.4, 0.1)]:
        before = weights(weighter) if weighter.built else np.ones(3)
        step(weighter, *losses)
        if losses[1] == 0:
            assert weights(weighter)[1] == before[1]
            assert array(weighter.last)[1] == pytest.approx(0.5)
        assert weights(weighter).sum() == pytest.approx(3, rel=1e-5)
