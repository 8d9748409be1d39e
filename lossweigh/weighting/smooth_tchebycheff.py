"""Lin et al.: a smooth maximum of the losses (STCH)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, softmax_where


@keras.saving.register_keras_serializable(package="lossweigh")
class SmoothTchebycheff(AdaptiveWeighter):
    """Smooth Tchebycheff scalarisation: trains the branch with the worst loss.

        total = m log sum_k exp(p_k (L_k - z_k) / m)

    with `L_k` the loss of branch k, `p_k` its preference, `z_k` the loss that it
    could reach at best, and `m` the smoothing: as it goes to 0 the total becomes
    `max_k p_k (L_k - z_k)`. The gradient of branch k is multiplied by
    `w_k = p_k softmax_k(p (L - z) / m)`; with equal preferences these weights sum
    to `1 / K`.

    It compares the losses' sizes, so bring them to a like scale, by `preferences` or
    before. The losses may have any sign. The layer has no state and learns nothing.

    Differs from the authors' code: that begins with a warm-up of equal weights and
    divides by the losses at its end, so its scale depends on the run. This layer has
    no warm-up.

    Args:
        smoothing: Float greater than 0, `m`.
        preferences: Optional list of K numbers, or dict by branch name, scaled to
            sum to 1. Default: all the same.
        ideal_losses: Likewise, `z`. Default: all 0.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range, or a list doesn't hold one
            number for each branch.

    Examples:
        >>> from keras import ops
        >>> weighter = SmoothTchebycheff()
        >>> total = weighter([ops.array([1.0]), ops.array([2.0]), ops.array([4.0])])
        >>> print(ops.convert_to_numpy(total).round(4))
        [1.3335]

    Reference:
        X. Lin, X. Zhang, Z. Yang, F. Liu, Z. Wang, Q. Zhang. Smooth Tchebycheff
        scalarization for multi-objective optimization. ICML 2024.
    """

    per_branch = ("preferences", "ideal_losses")

    def __init__(
        self,
        *,
        smoothing: float = 0.1,
        preferences: Sequence[float] | Mapping[str, float] | None = None,
        ideal_losses: Sequence[float] | Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.smoothing = _check.positive("smoothing", smoothing)
        self.preferences = _check.per_branch("preferences", preferences, _check.weights)
        self.ideal_losses = _check.per_branch(
            "ideal_losses", ideal_losses, _check.numbers
        )

    def build(self, input_shape: Any) -> None:
        number = self.count(input_shape)
        preferences = _check.in_order("preferences", self.preferences, self.branches)
        preferences = _check.weights(
            "preferences", preferences or [1.0] * number, number
        )
        self.shares = [value / sum(preferences) for value in preferences]
        ideal = _check.in_order("ideal_losses", self.ideal_losses, self.branches)
        self.ideal = _check.numbers("ideal_losses", ideal or [0.0] * number, number)
        super().build(input_shape)

    def first_weights(self) -> Tensor:
        return [share / self.num_branches for share in self.shares]

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        shares = ops.convert_to_tensor(self.shares, "float32")
        heights = shares * (means - ops.convert_to_tensor(self.ideal, "float32"))
        weights = shares * softmax_where(present, heights / self.smoothing)

        # Centred on the highest, so that no exponent is above 0.
        highest = ops.max(ops.where(present, heights, -3e38))
        centred = ops.where(present, (heights - highest) / self.smoothing, -3e38)
        value = highest + self.smoothing * ops.log(ops.sum(ops.exp(centred)))
        value = ops.where(ops.any(present), value, 0.0)
        return weights, value - ops.sum(weights * means)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "smoothing": self.smoothing,
            "preferences": self.preferences,
            "ideal_losses": self.ideal_losses,
        }
