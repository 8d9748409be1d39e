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
