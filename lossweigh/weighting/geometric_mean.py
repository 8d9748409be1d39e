"""Chennupati et al.: the geometric mean of the losses (GLS)."""

from __future__ import annotations

import keras
from keras import ops

from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, log_where


@keras.saving.register_keras_serializable(package="lossweigh")
class GeometricMean(AdaptiveWeighter):
    """The geometric mean of the losses: their scales drop out.

        total = (prod_k L_k)^(1/K) = exp(mean_k log L_k)

    with `L_k` the loss of branch k. If one loss is multiplied by a constant, the
    gradient keeps its direction. The gradient of branch k is multiplied by
    `w_k = total / (K L_k)`; these weights sum to no fixed number.

    A branch loss must be positive; an exact 0 counts as absent. K counts the branches
    that are present. The layer has no state and learns nothing.

    Differs from the paper's code: it takes the mean of logarithms. The code takes the
    root of a product, which overflows float32 for many branches.

    Args:
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = GeometricMean()
        >>> losses = [ops.array([1.0]), ops.array([2.0]), ops.array([4.0])]
        >>> total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(total).round(4))
        [2.]
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.6667 0.3333 0.1667]

    Reference:
        S. Chennupati, G. Sistu, S. Yogamani, S. A. Rawashdeh. MultiNet++:
        multi-stream feature aggregation and geometric loss strategy for
        multi-task learning. CVPR Workshops 2019.
    """

    needs_positive_losses = True

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        number = ops.maximum(ops.sum(ops.cast(present, "float32")), 1.0)
        logs = log_where(present, means)
        # total / (K L_k); the bound is where float32 ends.
        exponents = ops.sum(logs) / number - ops.log(number) - logs
        # sum_k w_k L_k is the total itself: no offset.
        return ops.exp(ops.minimum(exponents, 85.0)), 0.0
