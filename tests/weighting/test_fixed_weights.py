import numpy as np
import pytest
from methods import rows, step, weights

import lossweigh as lw


def test_weighted_sum():
    weighter = lw.FixedWeights([1.0, 30.0, 0.0])
    assert step(weighter, 1, 0.1, 50) == pytest.approx(4.0)
    np.testing.assert_allclose(weights(weighter), [1, 30, 0])


def test_weights_from_an_array():
    assert step(lw.FixedWeights(np.array([2.0, 3.0])), 1, 1) == pytest.approx(5.0)


def test_weights_by_name():
    weighter = lw.FixedWeights({"b": 3.0, "a": 2.0}, branches=["a", "b"])
    assert step(weighter, 1, 10) == pytest.approx(32.0)
    weighter.assign({"b": 0.5})
    assert step(weighter, 1, 10) == pytest.approx(7.0)
    with pytest.raises(ValueError, match=r"may only have the names \['a', 'b'\]"):
        weighter.assign({"c": 1.0})


def test_weights_by_name_need_names():
    with pytest.raises(ValueError, match="need branches with names"):
        lw.FixedWeights({"a": 1.0})(rows(1))


@pytest.mark.parametrize("some", [[1.0], [1.0, 2.0, 3.0]])
def test_one_weight_for_each_branch(some):
    with pytest.raises(ValueError, match="one number for each of the 2 branches"):
        lw.FixedWeights(some)(rows(1, 2))


def test_empty_list():
    with pytest.raises(ValueError, match="must hold finite numbers"):
        lw.FixedWeights([])


def named():
    weighter = lw.FixedWeights([2.0, 3.0, 4.0], branches=["a", "b", "c"])
    weighter.build([(None,)] * 3)
    return weighter


def test_a_branch_that_was_stopped_keeps_the_weight_0():
    weighter = named()
    assert weighter.stopped == []
    weighter.stop("b")
    np.testing.assert_allclose(weights(weighter), [2, 0, 4])
    weighter.assign([5.0, 6.0, 7.0])
    np.testing.assert_allclose(weights(weighter), [5, 0, 7])
    weighter.assign({"b": 1.0, "c": 1.0})
    np.testing.assert_allclose(weights(weighter), [5, 0, 1])
    weighter.stop("a")
    weighter.stop("c")
    np.testing.assert_allclose(weights(weighter), [0, 0, 0])
    assert weighter.stopped == ["a", "b", "c"]


def test_only_a_known_branch_can_be_stopped():
    with pytest.raises(
        ValueError, match=r"`branch` may only have the names \['a', 'b'"
    ):
        named().stop("d")


def test_what_is_remembered_is_saved_as_it_is():
    weighter, other = named(), named()
    weighter.stop("c")
    weighter.memory["history"] = np.full((2, 3), 1 / 3)
    store = {}
    weighter.save_own_variables(store)
    other.memory["older"] = np.ones(1)
    other.load_own_variables(store)
    assert other.stopped == ["c"]
    assert other.memory.keys() == {"stopped", "history"}
    np.testing.assert_array_equal(other.memory["history"], np.full((2, 3), 1 / 3))
    np.testing.assert_allclose(weights(other), [2, 3, 0])
