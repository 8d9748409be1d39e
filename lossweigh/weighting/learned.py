"""The bases of weightings whose layer trains its own parameters."""

from __future__ import annotations

import abc
from typing import Any

from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_STEEPEST = 2.0  # gradient of a parameter
_FARTHEST = 80.0  # a parameter from 0: exp() of it is finite in float32


class AdamWeighter(AdaptiveWeighter):
    """One parameter a branch, which the layer trains with its own Adam.

    Abstract. The forward pass of training moves the parameters, with the layer's
    learning rate. The model's optimizer never sees them, so its learning rate, weight
    decay, clipping and moving average don't act on them. For Keras they are
    non-trainable variables, like the moving statistics of `BatchNormalization`.

    Args:
        learning_rate: Float greater than 0, about the most that a parameter moves in
            one step.
        **kwargs: Passed to `Weighter`.
    """

    initial_parameter = 0.0

    def __init__(self, *, learning_rate: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learning_rate = _check.positive("learning_rate", learning_rate)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = (self.num_branches,)
        self.parameters = self.add_state("parameters", shape, self.initial_parameter)
        self.first_moment = self.add_state("first_moment", shape)
        self.second_moment = self.add_state("second_moment", shape)
        self.iterations = self.add_state("iterations", shape)

    def descend(self, parameters: Tensor, gradient: Tensor, where: Mask) -> Tensor:
        """One step of Adam; returns the next parameters.

        Args:
            parameters: `(K,)`, as read in this step.
            gradient: `(K,)`.
            where: `(K,)` bool, the branches whose parameter may move.
        """
        first_moment, second_moment = self.first_moment * 1.0, self.second_moment * 1.0
        iterations = self.iterations * 1.0
        new_iterations = iterations + 1.0
        new_first = _BETA_1 * first_moment + (1 - _BETA_1) * gradient
        new_second = _BETA_2 * second_moment + (1 - _BETA_2) * ops.square(gradient)
        mean = new_first / (1 - ops.power(_BETA_1, new_iterations))
        square = new_second / (1 - ops.power(_BETA_2, new_iterations))
        move = self.learning_rate * mean / (ops.sqrt(square) + _EPSILON)
        moved = ops.clip(parameters - move, -_FARTHEST, _FARTHEST)
        self.update(self.parameters, parameters, moved, where)
        self.update(self.first_moment, first_moment, new_first, where)
        self.update(self.second_moment, second_moment, new_second, where)
        self.update(self.iterations, iterations, new_iterations, where)
        return ops.where(where, moved, parameters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self.learning_rate}


class LearnedWeighter(AdamWeighter):
    """`sum_k w_k(p) L_k + sum_k r_k(p)`, minimised over the parameters `p` too.

    Abstract. The gradient of the total with respect to the parameters is known
    in closed form from the batch means `L`. It is clipped to [-2, 2] before Adam.
    Otherwise a first loss of 1000 would fill Adam's second moment and stop the
    parameter for thousands of steps.
    """

    @abc.abstractmethod
    def weights_of(self, parameters: Tensor) -> Tensor:
        """The loss weights `(K,)` for parameters `(K,)`."""

    @abc.abstractmethod
    def regularizers(self, parameters: Tensor, means: Tensor) -> Tensor:
        """What each branch adds to the total, `(K,)`."""

    @abc.abstractmethod
    def gradient(self, parameters: Tensor, means: Tensor) -> Tensor:
        """The total's gradient `(K,)` for batch means `(K,)` of the losses.

        It may leave out a positive factor that all branches share, which doesn't change
        Adam's step.
        """

    def first_weights(self) -> Tensor:
        shape = (self.num_branches,)
        return self.weights_of(ops.full(shape, self.initial_parameter, "float32"))

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        parameters = self.parameters * 1.0
        extra = ops.where(present, self.regularizers(parameters, means), 0.0)
        if training:
            gradient = self.gradient(parameters, means)
            self.descend(parameters, ops.clip(gradient, -_STEEPEST, _STEEPEST), present)
        return self.weights_of(parameters), ops.sum(extra)
