import numpy as np
import pytest
from gradients import numeric_gradient, total_and_gradients
from methods import array, drawn_losses, rows, step, weights

import lossweigh as lw


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_first_step():
    weighter = lw.FAMO()
    assert step(weighter, 1, 2, 4) == pytest.approx(1.188252, abs=1e-5)
    np.testing.assert_allclose(
        weights(weighter), (0.571429, 0.285714, 0.142857), atol=1e-5
    )
    np.testing.assert_array_equal(array(weighter.parameters), 0)


def test_losses_before_and_after():
    """delta (.223144, .051293, .025318), gradient (.041075, -.016208, -.024867)."""
    weighter = lw.FAMO(weight_decay=0)
    step(weighter, 1, 2, 4)
    np.testing.assert_allclose(array(weighter.before), np.log([1, 2, 4]), atol=1e-6)
    total = step(weighter, 0.8, 1.9, 3.9)
    np.testing.assert_allclose(
        array(weighter.first_moment) / 0.1, (0.041075, -0.016208, -0.024867), atol=1e-5
    )
    np.testing.assert_allclose(
        array(weighter.parameters), (-0.025, 0.025, 0.025), atol=1e-5
    )
    # The moved parameters weigh the losses that moved them.
    shares, losses = (
        softmax(np.array([-0.025, 0.025, 0.025])),
        np.array([0.8, 1.9, 3.9]),
    )
    scale = 1 / (shares / losses).sum()
    assert total == pytest.approx(scale * (shares * np.log(losses)).sum(), abs=1e-5)
    np.testing.assert_allclose(weights(weighter), scale * shares / losses, atol=1e-5)


def test_against_a_naive_loop():
    """Adam as the authors use it: the decay is added to the gradient."""
    losses = drawn_losses(num_steps=6)
    weighter = lw.FAMO(learning_rate=0.1, weight_decay=0.05)
    p, first, second = np.zeros(3), np.zeros(3), np.zeros(3)
    for t, loss in enumerate(losses):
        if t > 0:
            z = softmax(p)
            jacobian = np.diag(z) - np.outer(z, z)
            gradient = jacobian.T @ (np.log(losses[t - 1]) - np.log(loss)) + 0.05 * p
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            move = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-7)
            p = p - 0.1 * move
        step(weighter, *loss)
        np.testing.assert_allclose(array(weighter.parameters), p, atol=1e-4)


def test_gradient_with_the_scale_held():
    weighter = lw.FAMO(ideal_losses=[0.1, 0.2, -1.0])
    losses = np.array([1.0, 2.0, 4.0])
    _, gradients = total_and_gradients(weighter, np.tile(losses[:, None], 2))
    gaps = losses - [0.1, 0.2, -1.0]
    scale = 3 / (1 / gaps).sum()

    def total(some):
        return scale * np.log(some - np.array([0.1, 0.2, -1.0])).mean()

    np.testing.assert_allclose(
        gradients.sum(axis=1), numeric_gradient(total, losses), atol=1e-5
    )
    np.testing.assert_allclose(gradients.sum(axis=1), weights(weighter), atol=1e-6)


def test_a_branch_below_its_minimum_gets_no_weight():
    weighter = lw.FAMO(ideal_losses=[1.0, 0.0])
    step(weighter, 0.5, 2)
    np.testing.assert_allclose(weights(weighter), [0, 1])


def test_an_absent_branch_is_compared_with_its_last_loss():
    weighter = lw.FAMO(weight_decay=0)
    for losses in [(1, 2), (0, 2), (0.5, 2)]:
        step(weighter, *losses)
    # Two steps for the second branch; its first compares it with itself alone.
    np.testing.assert_array_equal(array(weighter.iterations), [1, 2])
    assert array(weighter.parameters)[0] == pytest.approx(-0.025, abs=1e-4)


def test_one_number_for_each_branch():
    with pytest.raises(ValueError, match=r"`ideal_losses` .* each of the 2 branches"):
        lw.FAMO(ideal_losses=[1])(rows(1, 2))
