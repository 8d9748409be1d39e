"""Learned weights on the simplex, through a softmax."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import softmax
from lossweigh.weighting.learned import LearnedWeighter


@keras.saving.register_keras_serializable(package="lossweigh")
class SumToOne(LearnedWeighter):
    """Learned weights that sum to 1: `LossWeighter`'s rule through a softmax.

        total = sum_k w_k L_k - barrier * mean_k |L_k| * sum_k log(w_k)
        w = softmax(s)

    with `L_k` the loss of branch k and `s` learned from 0, so that all weights
    are equal at the start. Without the barrier the rule collapses onto the
    branch with the smallest loss. With it the optimum, where `mean_k |L_k|` is held
    constant, is `w_k = barrier mean(L) / (L_k - l)`, with `l` such that they sum to 1.
    These are `LossWeighter`'s weights, whatever the scale of the losses.

    Unlike `LossWeighter` it has its own learning rate and no constraint, and no weight
    can be exactly 0. The smaller loss weighs more, within bounds that `barrier` sets.

    Where a branch is absent from the batch, `s` doesn't move.

    Args:
        barrier: Float of at least 0; 0 collapses.
        learning_rate: Float greater than 0, of `s`; the optimizer's doesn't act on it.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> weighter = SumToOne(barrier=0)
        >>> total = weighter([ops.array([1.0]), ops.array([3.0])])
        >>> print(ops.convert_to_numpy(total))
        [2.]
    """

    def __init__(
        self, *, barrier: float = 0.5, learning_rate: float = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.barrier = _check.not_negative("barrier", barrier)

    def weights_of(self, parameters: Tensor) -> Tensor:
        return softmax(parameters)

    def regularizers(self, parameters: Tensor, means: Tensor) -> Tensor:
        scale = ops.mean(ops.abs(means))
        return -self.barrier * scale * (parameters - ops.logsumexp(parameters))

    def gradient(self, parameters: Tensor, means: Tensor) -> Tensor:
        # Divided by mean |L|, which doesn't move the optimum: the losses fall during
        # training, and Adam would remember their large first gradients for long.
        scaled = means / ops.maximum(ops.mean(ops.abs(means)), 1e-30)
        weights = self.weights_of(parameters)
        of_losses = weights * (scaled - ops.sum(weights * scaled))
        return of_losses + self.barrier * (self.num_branches * weights - 1.0)

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        return super().weigh(
            means, ops.logical_and(present, ops.all(present)), training
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "barrier": self.barrier}
