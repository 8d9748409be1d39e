import keras
import numpy as np
import pytest
from gradients import total_and_gradients
from methods import array, rows, step, weights

import lossweigh as lw


def test_value():
    assert step(lw.LossWeighter(barrier=0), 1, 3) == pytest.approx(2.0)
    # 2 + 0.5 * 2 * 2 log 2
    assert step(lw.LossWeighter(), 1, 3) == pytest.approx(2 + 2 * np.log(2))


def test_initial_weights_are_scaled_to_sum_to_one():
    weighter = lw.LossWeighter(initial_weights=np.array([3.0, 1.0]), barrier=0)
    assert step(weighter, 1, 3) == pytest.approx(1.5)


def on_constant_losses(weighter, losses, steps, optimizer):
    """Trains the weighter alone, on losses that stay as they are."""
    inputs = [keras.Input(()) for _ in losses]
    model = keras.Model(inputs, weighter(inputs))
    model.compile(optimizer, loss=lw.ignoreLoss)
    ones = np.ones(steps, "float32")
    model.fit([loss * ones for loss in losses], ones, batch_size=1, verbose=0)
    return weights(weighter)


@pytest.mark.compiled
def test_literal_rule_collapses():
    """L = (1, 2), SGD(1e-3): a goes from .5 to 1 in 500 steps."""
    got = on_constant_losses(
        lw.LossWeighter(barrier=0), (1.0, 2.0), 500, keras.optimizers.SGD(1e-3)
    )
    np.testing.assert_allclose(got, [1.0, 0.0], atol=1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_barrier_holds_the_weights_whatever_the_scale(scale):
    """w_k = barrier mean(L) / (L_k - l), here for L = (1, 2)."""
    got = on_constant_losses(
        lw.LossWeighter(), (scale, 2 * scale), 300, keras.optimizers.Adam(0.01)
    )
    # 0.75 / (1 - l) + 0.75 / (2 - l) = 1
    below = 0.75 - np.sqrt(0.25 + 0.75**2)
    expected = 0.75 / (np.array([1.0, 2.0]) - below)
    assert sum(expected) == pytest.approx(1.0)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_absent_branch_gives_the_weight_no_gradient():
    weighter = lw.LossWeighter(initial_weights=[0.25, 0.75])
    step(weighter, 1, 2)
    total, gradient = total_and_gradients(weighter, np.array([[2.0, 4.0], [0, 0]]))
    assert total == pytest.approx(0.25 * 3)
    np.testing.assert_allclose(gradient, [[0.125, 0.125], [0.375, 0.375]])


def test_min_weight_needs_room():
    with pytest.raises(ValueError, match="`min_weight` must be less than 1/3"):
        lw.LossWeighter(min_weight=0.4)(rows(1, 2, 3))


def test_frozen_weight_survives_an_optimizer_with_momentum():
    weighter = lw.LossWeighter(initial_weights=[0.25, 0.75])
    step(weighter, 1, 2)
    weighter.freeze()
    weighter.loss_weight.assign(0.9)  # what momentum would do
    np.testing.assert_allclose(weights(weighter), [0.25, 0.75])
    weighter.unfreeze()
    np.testing.assert_allclose(array(weighter.loss_weight), 0.25)
