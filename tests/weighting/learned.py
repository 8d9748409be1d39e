"""What all methods that learn a parameter a branch must do."""

import numpy as np
from gradients import numeric_gradient
from keras import ops
from methods import array, number

MEANS = (0.3, 1.5, 4.0)
PARAMETERS = (0.5, -0.4, 1.2)


def assert_gradient_is_that_of_the_total(weighter, scale=1.0):
    """`gradient()` against central differences of what is minimised."""
    weighter.build([(None,)] * 3)
    means = ops.array(MEANS, "float32")

    def total(parameters):
        parameters = ops.array(parameters, "float32")
        terms = weighter.weights_of(parameters) * means
        return number(ops.sum(terms + weighter.regularizers(parameters, means)))

    got = array(weighter.gradient(ops.array(PARAMETERS, "float32"), means))
    np.testing.assert_allclose(
        got * scale, numeric_gradient(total, PARAMETERS, 1e-2), atol=2e-3
    )


def settle(weighter, losses, steps=1000):
    """Descends on losses that stay as they are; returns the weights."""
    weighter.build([(None,)] * len(losses))
    means = np.array(losses, "float32")
    # The layer's own Adam, in NumPy: 1000 steps of a backend are slow.
    parameters = np.zeros(len(losses))
    first = second = 0.0
    for t in range(1, steps + 1):
        gradient = array(
            weighter.gradient(ops.array(parameters, "float32"), ops.array(means))
        )
        gradient = np.clip(gradient, -2, 2)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        move = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-7)
        parameters = parameters - weighter.learning_rate * move
    return array(weighter.weights_of(ops.array(parameters, "float32")))
