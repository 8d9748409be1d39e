"""CoBa's weights are those of a loop that is written out, and of the reference."""

import numpy as np
import pytest
from two_branches import Record, fit, training_model, weights_of

from lossweigh.callbacks import CoBa

once = pytest.mark.once

LOSSES = np.array(
    [
        (1, 2, 0.5),
        (0.8, 1.9, 0.45),
        (0.65, 1.7, 0.44),
        (0.55, 1.6, 0.46),
        (0.5, 1.5, 0.5),
        (0.48, 1.45, 0.55),
    ]
)


def exponentials(values):
    powers = [np.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def written_out(losses, window, warmup, temperature):
    """The weights after each validation, summing to 1, branch by branch."""
    losses = np.asarray(losses, dtype="float64")
    branches = range(losses.shape[1])
    slopes, largest, results = [], [], []
    for t in range(1, len(losses) + 1):
        if t < warmup:
            results.append([1 / len(branches) for _ in branches])
            continue
        seen = losses[:t][-window:] / losses[0]
        steps = np.arange(len(seen))
        slopes.append([np.polyfit(steps, seen[:, k], 1)[0] for k in branches])
        largest.append(np.polyfit(steps, seen.max(axis=1), 1)[0])
        slopes, largest = slopes[-window:], largest[-window:]
        n, now = len(slopes), slopes[-1]
        total = sum(abs(a) for a in now)
        relative = exponentials([len(branches) * a / total for a in now])
        absolute = exponentials(
            [-n * now[k] / sum(abs(a[k]) for a in slopes) for k in branches]
        )
        total = sum(abs(a) for a in largest)
        factor = n * exponentials([-temperature * n * a / total for a in largest])[-1]
        scores = [
            factor * r + (1 - factor) * s
            for r, s in zip(relative, absolute, strict=True)
        ]
        weights = exponentials([len(branches) * score for score in scores])
        least = 1 / (10 * len(branches))
        if min(weights) < least:
            weights = [w * (1 - len(branches) * least) + least for w in weights]
        results.append(weights)
    return np.array(results)


def weights_after_each(coba, losses):
    memory = {}
    return np.array([coba.weigh(row, memory) for row in np.asarray(losses)])


@once
def test_the_reference():
    weights = weights_after_each(CoBa(warmup=3), LOSSES) / 3
    np.testing.assert_allclose(weights[:2], 1 / 3)
    expected = [
        (0.1790, 0.3727, 0.4483),
        (0.3401, 0.3726, 0.2872),
        (0.3819, 0.4304, 0.1877),
        (0.3944, 0.4646, 0.1410),
    ]
    np.testing.assert_allclose(weights[2:], expected, atol=6e-5)


@once
@pytest.mark.parametrize(("window", "warmup"), [(200, 3), (4, 2), (5, 5), (2, 2)])
@pytest.mark.parametrize("branches", [1, 2, 5])
def test_a_loop_that_is_written_out(branches, window, warmup):
    rng = np.random.default_rng(branches + window)
    losses = np.exp(rng.normal(size=(12, branches)).cumsum(axis=0))
    coba = CoBa(window=window, warmup=warmup, temperature=2.0)
    weights = weights_after_each(coba, losses)
    expected = branches * written_out(losses, window, warmup, 2.0)
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    np.testing.assert_allclose(weights.sum(axis=1), branches)
    assert weights.min() >= 0.1 - 1e-12


@once
def test_losses_of_any_size_and_those_that_stand_still():
    coba = CoBa(warmup=2)
    for losses in (np.ones((4, 3)), [[1e-30, 1, 1e30], [1e30, 1, 1e-30]] * 3):
        weights = weights_after_each(coba, losses)
        assert np.all(np.isfinite(weights))
        np.testing.assert_allclose(weights.sum(axis=1), 3)
    np.testing.assert_allclose(weights_after_each(coba, np.ones((4, 3))), 1.0)


def test_fit_sets_them_after_each_validation():
    training = training_model()
    record = Record(weights_of)
    history = fit(training, CoBa(window=3, warmup=2), record, epochs=4)
    losses = np.transpose([history["val_a_loss"], history["val_b_loss"]])
    expected = 2 * written_out(losses, window=3, warmup=2, temperature=5.0)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(record.seen, expected, rtol=1e-4)
    # They are in force in the epoch that follows.
    np.testing.assert_allclose(history["a_weight"][1:], expected[:-1, 0], rtol=1e-4)


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 1}, "`window` must be a whole number of at least 2"),
        ({"warmup": 1}, "`warmup` must be a whole number of at least 2"),
        ({"warmup": 9, "window": 8}, "`warmup` must be at most `window`"),
        ({"temperature": 0}, "`temperature` must be greater than 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoBa(**arguments)
