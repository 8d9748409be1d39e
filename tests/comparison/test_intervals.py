"""Paired intervals and Holm's correction, against SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats

from lossweigh.comparison.intervals import LEVEL, changes

pytestmark = pytest.mark.once
RNG = np.random.default_rng(0)


def holm(raw):
    """Holm's p-values as the paper words them: multiply, then never below the last."""
    order = np.argsort(raw)
    corrected, last = np.empty(len(raw)), 0.0
    for rank, index in enumerate(order):
        last = max(last, min(1.0, (len(raw) - rank) * raw[index]))
        corrected[index] = last
    return corrected


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_one_candidate_is_the_paired_t_test(seeds):
    ours, theirs = RNG.normal(0.3, 1.0, (2, seeds))
    (change,) = changes({"x": ours - theirs}).values()
    expected = scipy.stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(1 - LEVEL)
    assert change.mean == pytest.approx((ours - theirs).mean())
    assert (change.low, change.high) == pytest.approx(tuple(interval))
    assert change.p_value == pytest.approx(expected.pvalue)


def test_several_candidates_are_corrected_after_holm():
    for _ in range(50):
        differences = RNG.normal(RNG.uniform(0, 1.5, (4, 1)), 1.0, (4, 6))
        raw = [scipy.stats.ttest_1samp(d, 0.0).pvalue for d in differences]
        result = changes(dict(zip("abcd", differences, strict=True)))
        assert list(result) == list("abcd")
        values = [change.p_value for change in result.values()]
        assert values == pytest.approx(holm(np.array(raw)))


def test_holm_by_hand():
    """p of 0.01, 0.04 and 0.03 become 0.03, 0.06 and 0.06."""

    def with_p(p, seeds=5):
        values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        error = values.std(ddof=1) / np.sqrt(seeds)
        return values + scipy.stats.t(seeds - 1).isf(p / 2) * error

    result = changes({"x": with_p(0.01), "y": with_p(0.04), "z": with_p(0.03)})
    values = [change.p_value for change in result.values()]
    assert values == pytest.approx([0.03, 0.06, 0.06])
    assert [change.is_real for change in result.values()] == [True, False, False]


def test_an_interval_leaves_out_0_if_the_change_is_significant():
    seen = set()
    for _ in range(300):
        means = RNG.choice([0.0, 0.7, 1.5], (3, 1))
        result = changes(dict(enumerate(RNG.normal(means, 1.0, (3, 6)))))
        for change in result.values():
            leaves_out = change.low > 0 or change.high < 0
            assert leaves_out == change.is_real
            seen.add(leaves_out)
    assert seen == {True, False}


def test_where_nothing_differs_one_in_twenty_tables_says_otherwise():
    """Candidates are compared with the same equal weights: their noise is shared."""
    tables, seeds, candidates = 600, 5, 4
    wrong = 0
    for _ in range(tables):
        equal, others = RNG.normal(size=seeds), RNG.normal(size=(candidates, seeds))
        result = changes(dict(enumerate(others - equal)))
        wrong += any(change.is_real for change in result.values())
    # At most 5% of them, and 3.5 standard errors of that.
    assert 0 < wrong / tables < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / tables)


@pytest.mark.parametrize(
    ("values", "p_value"), [([0.0, 0.0, 0.0], 1.0), ([0.2, 0.2, 0.2], 0.0)]
)
def test_seeds_that_do_not_differ(values, p_value):
    change = changes({"x": values})["x"]
    assert change.p_value == pytest.approx(p_value, abs=1e-12)
    assert (change.low, change.high) == pytest.approx((values[0], values[0]))


def test_one_seed_has_no_interval():
    change = changes({"x": [0.3], "y": [0.1]})["x"]
    assert change.mean == 0.3
    assert change.low is change.high is change.p_value is None
    assert not change.is_real


def test_no_candidate():
    assert changes({}) == {}
