"""McClenny & Braga-Neto: self-adaptive weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Tensor
from lossweigh.points._point_losses import PointLosses
from lossweigh.points.base import PointWeights

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


def _slope_of_square(parameters: Tensor) -> Tensor:
    return 2.0 * parameters


def _slope_of_sigmoid(parameters: Tensor) -> Tensor:
    return ops.sigmoid(parameters) * ops.sigmoid(-parameters)


# From a parameter to its weight, and the derivative.
_WEIGHTS = {
    "square": (ops.square, _slope_of_square),
    "sigmoid": (ops.sigmoid, _slope_of_sigmoid),
}


@keras.saving.register_keras_serializable(package="lossweigh")
class SelfAdaptive(PointWeights):
    """Self-adaptive weights: the network descends on the loss, the weights ascend.

        loss = mean_i m(p_i) r_i^2,    p_i ascends on it

    with `r_i` the residual of point i, `p_i` its parameter and `m` the square or the
    sigmoid. The gradient `m'(p_i) r_i^2 / n` of the mean over n rows is written out.
    The layer ascends by an optimizer and a learning rate of its own, in the forward
    pass of training. The model's optimizer never sees `p`. A step weighs the loss by
    the parameters from before it.

    `r_i^2` is the point's loss, of whatever kind: the method weighs hard examples of
    any data set. The sum of the weights is free. Where losses are positive no weight
    ever falls. Under the square they grow without bound, as in the paper, and under
    the sigmoid to 1.

    Differs from the paper where a batch isn't the whole set: only the points of the
    batch move, and each counts the steps of Adam that it took. The paper draws the
    first parameters at random; here they are one number.

    Args:
        num_points: How many points there are.
        optimizer: `"adam"`, or `"sgd"` for plain ascent.
        learning_rate: Float greater than 0, of that optimizer.
        transform: `m`: `"square"` or `"sigmoid"`.
        initial: The first `p_i`; under the square greater than 0.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> points = SelfAdaptive(3, optimizer="sgd", learning_rate=0.1)
        >>> squared_residuals = ops.array([0.25, 1.0, 4.0])
        >>> weighted = points([squared_residuals, ops.arange(3)], training=True)
        >>> print(ops.convert_to_numpy(points.parameters).round(4))
        [1.0167 1.0667 1.2667]

    Reference:
        L. D. McClenny, U. M. Braga-Neto. Self-adaptive physics-informed neural
        networks. Journal of Computational Physics 474, 2023.
    """

    def __init__(
        self,
        num_points: int,
        *,
        optimizer: str = "adam",
        learning_rate: float = 0.005,
        transform: str = "square",
        initial: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points, **kwargs)
        self.optimizer = _check.one_of("optimizer", optimizer, ("adam", "sgd"))
        self.learning_rate = _check.positive("learning_rate", learning_rate)
        self.transform = _check.one_of("transform", transform, tuple(_WEIGHTS))
        check = _check.positive if transform == "square" else _check.number
        self.initial = check("initial", initial)  # at 0 a square has no slope
        self._weight, self._slope = _WEIGHTS[self.transform]

    def add_states(self) -> None:
        shape = (self.num_points,)
        self.parameters = self.add_state("parameters", shape, self.initial)
        if self.optimizer == "adam":
            self.first_moment = self.add_state("first_moment", shape)
            self.second_moment = self.add_state("second_moment", shape)
            self.iterations = self.add_state("iterations", shape)

    @property
    def loss_weights(self) -> Tensor:
        return self._weight(self.parameters * 1.0)

    def weigh(self, batch: PointLosses) -> Tensor:
        old = self.parameters * 1.0
        parameters = ops.take(old, batch.index)
        shares = batch.rows / ops.maximum(ops.sum(batch.counted), 1.0)
        gradient = self._slope(parameters) * batch.losses * shares
        rise = gradient if self.optimizer == "sgd" else self._adam(gradient, batch)
        self.move(self.parameters, old, parameters + self.learning_rate * rise, batch)
        return self._weight(parameters)

    def _adam(self, gradient: Tensor, batch: PointLosses) -> Tensor:
        old_first, old_second = self.first_moment * 1.0, self.second_moment * 1.0
        old_iterations = self.iterations * 1.0
        first = ops.take(old_first, batch.index)
        second = ops.take(old_second, batch.index)
        iterations = ops.take(old_iterations, batch.index) + 1.0
        first = _BETA_1 * first + (1 - _BETA_1) * gradient
        second = _BETA_2 * second + (1 - _BETA_2) * ops.square(gradient)
        self.move(self.first_moment, old_first, first, batch)
        self.move(self.second_moment, old_second, second, batch)
        self.move(self.iterations, old_iterations, iterations, batch)
        mean = first / (1 - ops.power(_BETA_1, iterations))
        square = second / (1 - ops.power(_BETA_2, iterations))
        return mean / (ops.sqrt(square) + _EPSILON)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "transform": self.transform,
            "initial": self.initial,
        }
