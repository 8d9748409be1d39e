"""Each method against published numbers and against a loop in NumPy."""

import numpy as np
import pytest
from point_loops import METHODS, array, drawn_batches, step

import lossweigh as lw

RESIDUALS = np.array([0.5, 1, 2])


def test_residual_attention():
    layer = lw.points.ResidualAttention(3)
    expected = [
        (0.0025, 0.005, 0.01),
        (0.006998, 0.012995, 0.01999),
        (0.013319, 0.022982, 0.027783),
    ]
    residuals = RESIDUALS
    for attention in expected:
        weighted = step(layer, residuals**2, [0, 1, 2])
        np.testing.assert_allclose(array(layer.attention), attention, atol=1e-6)
        squares = (np.array(attention) * residuals) ** 2
        np.testing.assert_allclose(weighted, squares, rtol=2e-4)
        residuals = residuals * (0.9, 0.8, 0.5)


def test_residual_attention_is_bounded():
    layer = lw.points.ResidualAttention(2, gamma=0.5, eta=1.0)
    for _ in range(30):
        step(layer, [4.0, 4.0], [0, 1])
    np.testing.assert_allclose(array(layer.loss_weights), [4, 4], rtol=1e-5)


def test_self_adaptive():
    layer = lw.points.SelfAdaptive(3, optimizer="sgd", learning_rate=0.1)
    weighted = step(layer, RESIDUALS**2, [0, 1, 2])
    np.testing.assert_allclose(weighted, RESIDUALS**2)  # by those from before the step
    first, second = (1.016667, 1.066667, 1.266667), (1.033611, 1.137778, 1.604444)
    np.testing.assert_allclose(array(layer.parameters), first, atol=1e-6)
    weighted = step(layer, RESIDUALS**2, [0, 1, 2])
    np.testing.assert_allclose(weighted, np.square(first * RESIDUALS), rtol=1e-5)
    np.testing.assert_allclose(array(layer.parameters), second, atol=1e-6)


@pytest.mark.parametrize(
    ("epsilon", "weights"),
    [(1.0, (1, 0.9048, 0.7408, 0.4966)), (10.0, (1, 0.3679, 0.0498, 0.0009))],
)
def test_causal(epsilon, weights):
    layer = lw.points.Causal(4, 4, epsilons=[epsilon])
    losses = np.array([0.1, 0.2, 0.4, 0.8])
    weighted = step(layer, losses, [0, 1, 2, 3])
    np.testing.assert_allclose(array(layer.loss_weights), weights, atol=5e-5)
    np.testing.assert_allclose(weighted, losses * weights, atol=5e-5)


def test_epsilon_is_raised_once_all_have_been_seen():
    layer = lw.points.Causal(4, 2, epsilons=[0.1, 1.0, 2.0])
    for losses, index, epsilon in (
        ([1e-3], [0], 0.1),  # the second slice hasn't been seen
        ([1e-3], [3], 1.0),
        ([0.1], [1], 1.0),  # exp(-0.1) isn't above the threshold
        ([1e-3], [1], 2.0),
        ([1e-3], [1], 2.0),  # the last one
    ):
        step(layer, losses, index)
        assert array(layer.epsilon) == pytest.approx(epsilon)


def test_slices_of_as_many_points_each():
    layer = lw.points.Causal(7, 3)
    step(layer, [1.0, 2.0, 4.0], [0, 3, 6])
    weights = array(layer.loss_weights)
    np.testing.assert_allclose(weights, np.exp(-0.01 * np.repeat([0, 1, 3], [3, 2, 2])))


@pytest.mark.smoke
@pytest.mark.parametrize("name", METHODS)
def test_against_a_naive_loop(name):
    make, loop, state = METHODS[name]
    layer, loop = make(), loop()
    for losses, index in drawn_batches():
        weighted = step(layer, losses, index)
        expected = loop.step(losses, index) * losses
        np.testing.assert_allclose(weighted, expected, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(array(getattr(layer, state)), loop.state, rtol=2e-5)
    if name == "causal":
        assert array(layer.level) == loop.level > 0
