"""What can be compared, and the fixed weights that are searched."""

import keras
import numpy as np
import pytest

import lossweigh as lw
from lossweigh.comparison.candidates import EQUAL, candidates_by_name

pytestmark = pytest.mark.once
BRANCHES = ["a", "b"]


def one(value):
    return candidates_by_name({"x": value}, BRANCHES)["x"]


def test_equal_weights_are_always_the_first():
    assert list(candidates_by_name({"x": lw.UPGrad()}, BRANCHES)) == [EQUAL, "x"]
    given = {"x": lw.UPGrad(), EQUAL: lw.FixedWeights()}
    assert list(candidates_by_name(given, BRANCHES)) == [EQUAL, "x"]
    with pytest.raises(ValueError, match="the name 'equal' only for `FixedWeights"):
        candidates_by_name({EQUAL: lw.FixedWeights([1.0, 2.0])}, BRANCHES)


def test_each_run_gets_new_objects_of_the_same_arguments():
    weighter = lw.RevisedUncertainty(learning_rate=0.05)
    balancer = lw.CAGrad(level=lw.Parameters(update_every=7))
    pair = one((weighter, balancer))
    first, second = pair.make(None), pair.make(None)
    assert first[0] is not second[0]
    assert first[1] is not second[1]
    for made, balanced in (first, second):
        assert type(made) is lw.RevisedUncertainty
        assert made.learning_rate == 0.05
        assert repr(balanced) == repr(balancer)
    assert one(balancer).make(None)[0] is None
    assert one(weighter).make(None)[1] is None


def test_what_was_used_before_is_given_fresh():
    weighter = lw.Uncertainty()
    weighter.bind(["other", "branches"], ["regression", "regression"])
    made, _ = one(weighter).make(None)
    assert made.branches is None


def test_the_name_that_keras_counts_is_no_difference():
    assert one(lw.DWA()).describe() == one(lw.DWA()).describe()
    assert one(lw.DWA()).describe() != one(lw.DWA(temperature=3.0)).describe()


def test_fixed_weights_are_one_candidate():
    listed = one([{"b": 3.0, "a": 1.0}, {"a": 2.0, "b": 0.0}])
    assert listed.searched == ({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 0.0})
    weighter, balancer = listed.make(listed.searched[0])
    assert weighter.weights_given == {"a": 1.0, "b": 3.0}
    assert balancer is None
    assert len(one(lw.Grid()).searched) == 5


@pytest.mark.parametrize(("branches", "number"), [("a", 1), ("ab", 5), ("abc", 19)])
def test_a_grid_has_each_ratio_once(branches, number):
    tried = lw.Grid().weights(branches)
    assert len(tried) == number
    ratios = np.array([list(weights.values()) for weights in tried])
    assert ratios.mean(1) == pytest.approx(1.0)
    assert len(np.unique(ratios.round(6), axis=0)) == number


def test_random_weights_are_as_asked():
    tried = lw.RandomSearch(200, low=0.5, high=2.0, seed=3).weights(BRANCHES)
    assert tried == lw.RandomSearch(200, low=0.5, high=2.0, seed=3).weights(BRANCHES)
    assert tried != lw.RandomSearch(200, low=0.5, high=2.0, seed=4).weights(BRANCHES)
    ratio = np.log([weights["a"] / weights["b"] for weights in tried])
    assert np.abs(ratio).max() <= np.log(4.0)
    assert np.abs(ratio).max() > np.log(2.0)
    assert abs(ratio.mean()) < 0.2
    assert [sum(weights.values()) for weights in tried] == pytest.approx([2.0] * 200)


def test_the_default_has_a_search_and_methods_of_both_kinds():
    for branches in (["a", "b"], list("abcdefgh")):
        chosen = candidates_by_name(None, branches)
        assert 4 <= len(chosen) <= 8
        assert sum(one.searched is not None for one in chosen.values()) == 1
        assert any(one.balancer is not None for one in chosen.values())
        assert max(len(one.searched or ()) for one in chosen.values()) <= 6


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([lw.UPGrad()], TypeError, "`candidates` must be a dict"),
        ({}, ValueError, "at least one candidate. Received an empty dict"),
        ({"x": []}, ValueError, "'x' must have at least one set of fixed weights"),
        ({"": lw.UPGrad()}, TypeError, "names that are strings and not empty"),
        ({3: lw.UPGrad()}, TypeError, "Received the name 3"),
        ({"x": lw.UPGrad}, TypeError, r"Write `UPGrad\(\)`"),
        ({"x": "upgrad"}, TypeError, "'x' must be a weighter, a balancer, a pair"),
        ({"x": None}, TypeError, "Received: None"),
        ({"x": (lw.UPGrad(), lw.DWA())}, TypeError, "a pair"),
        ({"x": [[1.0, 2.0]]}, TypeError, "a list of dicts with a weight for each"),
        ({"x": [{"a": 1.0}]}, ValueError, r"missing: \['b'\]"),
        ({"x": lw.FixedWeights({"a": 1, "c": 2})}, ValueError, r"unknown: \['c'\]"),
        ({"x": lw.FixedWeights([1, 2, 3])}, ValueError, r"2 branches .* Received 3"),
        (
            {"x": lw.UPGrad(preferences=[1, 2, 3])},
            ValueError,
            r"`preferences` of the candidate 'x' must .* Received 3",
        ),
        (
            {"x": (lw.DWA(), lw.UPGrad(preferences={"a": 1.0}))},
            ValueError,
            r"missing: \['b'\]",
        ),
        ({"x": [{"a": 1.0, "b": -1.0}]}, ValueError, "finite numbers of at least 0"),
    ],
)
def test_candidates_that_cannot_be_used(given, error, words):
    with pytest.raises(error, match=words):
        candidates_by_name(given, BRANCHES)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: lw.Grid([]), ValueError, "`values` must hold at least one number"),
        (lambda: lw.Grid([0.0, 1.0]), ValueError, "`values` must be greater than 0"),
        (lambda: lw.RandomSearch(0), ValueError, "`number` must be a whole number"),
        (
            lambda: lw.RandomSearch(3, low=2.0, high=1.0),
            ValueError,
            "`low` must be less than `high`",
        ),
        (lambda: lw.RandomSearch(3, seed=-1), ValueError, "`seed` must be"),
    ],
)
def test_searches_that_cannot_be_made(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_class_of_the_user_needs_no_registration():
    class EqualNorms(lw.Balancer):
        def solve(self, gramian, present=None):
            return 1.0 / keras.ops.sqrt(keras.ops.diagonal(gramian))

    _, balancer = one(EqualNorms(seed=3)).make(None)
    assert type(balancer) is EqualNorms
    assert balancer.seed == 3
