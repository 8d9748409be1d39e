"""The sum of the losses' logarithms: scale-invariant losses."""

from __future__ import annotations

import keras
from keras import ops

from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, log_where


@keras.saving.register_keras_serializable(package="lossweigh")
class LogSum(AdaptiveWeighter):
    """The sum of the losses' logarithms: their scales drop out.

        total = sum_k log L_k

    with `L_k` the loss of branch k. If one loss is multiplied by a constant, the
    gradient stays the same. The gradient of branch k is multiplied by `w_k = 1 / L_k`.
    These weights sum to no fixed number and grow as the losses fall, so the effective
    learning rate doesn't shrink by itself. `IMTLL` has the same weights once they have
    settled.

    The total may become negative. A branch loss must be positive; an exact 0 counts as
    absent. The layer has no state and learns nothing.

    Args:
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = LogSum()
        >>> losses = [ops.array([1.0]), ops.array([2.0]), ops.array([4.0])]
        >>> total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(total).round(4))
        [2.0794]
        >>> print(ops.convert_to_numpy(weighter.loss_weights))
        [1.   0.5  0.25]

    Reference:
        S. Vandenhende, S. Georgoulis, W. Van Gansbeke, M. Proesmans, D. Dai,
        L. Van Gool. Multi-task learning for dense prediction tasks: a survey.
        TPAMI 2021.
    """

    needs_positive_losses = True

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        logs = log_where(present, means)
        number = ops.sum(ops.cast(present, "float32"))
        # sum_k w_k L_k is the number of branches: the offset makes it sum log L.
        return ops.exp(-logs), ops.sum(logs) - number
