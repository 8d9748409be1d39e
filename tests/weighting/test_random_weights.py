import numpy as np
import pytest
from methods import rows, step, weights

import lossweigh as lw


def drawn(weighter, times):
    got = []
    for _ in range(times):
        total = step(weighter, 1, 2, 4)
        got.append(weights(weighter))
        assert total == pytest.approx(np.dot(got[-1], (1, 2, 4)), rel=1e-5)
    return np.array(got)


def test_weights_are_the_softmax_of_normal_draws():
    got = drawn(lw.RandomWeights(seed=0), 400)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)
    z = np.log(got)
    differences = np.concatenate([z[:, 0] - z[:, 1], z[:, 1] - z[:, 2]])
    assert np.mean(differences) == pytest.approx(0, abs=0.2)
    assert np.std(differences) == pytest.approx(np.sqrt(2), rel=0.1)


def test_a_seed_repeats():
    first, again = (
        drawn(lw.RandomWeights(seed=3), 2),
        drawn(lw.RandomWeights(seed=3), 2),
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - drawn(lw.RandomWeights(seed=4), 2)).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_evaluation_weighs_equally_and_draws_nothing():
    weighter, other = lw.RandomWeights(seed=3), lw.RandomWeights(seed=3)
    for _ in range(2):
        assert step(weighter, 1, 2, 4, training=False) == pytest.approx(7 / 3)
    np.testing.assert_array_equal(drawn(weighter, 1), drawn(other, 1))


def test_without_a_seed():
    one, other = lw.RandomWeights(), lw.RandomWeights()
    one(rows(1, 2), training=True), other(rows(1, 2), training=True)
    assert np.abs(weights(one) - weights(other)).max() > 0
