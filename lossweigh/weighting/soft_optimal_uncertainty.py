"""Kirchdorfer et al.: uncertainty weights in closed form, through a softmax."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, softmax_where


@keras.saving.register_keras_serializable(package="lossweigh")
class SoftOptimalUncertainty(AdaptiveWeighter):
    """UW-SO: the optimal weight of `Uncertainty`, `1 / L`, softened.

        w = softmax(1 / (L T)),    total = sum_k w_k L_k

    with `L_k` the loss of branch k in this batch, held constant in the gradient,
    and `T` the temperature. The layer has no state and learns nothing.

    The weights of the branches that are present sum to 1. A branch loss must be
    positive; an exact 0 counts as absent.

    **Small losses dominate**: at losses of 0.1 and 0.2 and `T = 1` the weights
    are 0.993 and 0.007. Bring the losses to a like scale, near 1, or raise the
    temperature; the paper tunes it for each problem. The exponent is bounded only by
    float32.

    Args:
        temperature: Float greater than 0. Larger: more equal weights.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If `temperature` isn't greater than 0.

    Examples:
        >>> from keras import ops
        >>> weighter = SoftOptimalUncertainty()
        >>> losses = [ops.array([1.0]), ops.array([2.0]), ops.array([4.0])]
        >>> total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.481  0.2918 0.2272]

    Reference:
        L. Kirchdorfer, C. Elich, S. Kutsche, H. Stuckenschmidt, L. Schott,
        J. M. Koehler. Analytical uncertainty-based loss weighting in multi-task
        learning. GCPR 2024.
    """

    needs_positive_losses = True

    def __init__(self, *, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = _check.positive("temperature", temperature)

    def first_weights(self) -> Tensor:
        return 1.0 / self.num_branches

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        exponents = 1.0 / ops.maximum(means * self.temperature, 1e-30)
        return softmax_where(present, exponents), 0.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
