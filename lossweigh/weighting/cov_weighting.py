"""Groenendijk et al.: weights from the losses' coefficients of variation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, ratio


@keras.saving.register_keras_serializable(package="lossweigh")
class CoVWeighting(AdaptiveWeighter):
    """CoV-Weighting: more weight for the loss that still varies.

        l_k(t) = L_k(t) / mean(L_k up to t - 1)
        w_k(t) = c_k / sum_j c_j,    c_k = std(l_k) / mean(l_k) up to t - 1

    with `L_k(t)` the loss of branch k in step t, `l_k(1) = 1`, and means and
    standard deviations over all steps so far (Welford's algorithm). A branch
    whose loss has settled has a small coefficient of variation and gets little
    weight.

    The weights sum to 1. They are all `1 / K` until each branch was present in two
    steps. A branch loss must be positive; an exact 0 counts as absent. Evaluation
    takes the last weights of training.

    Args:
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = CoVWeighting()
        >>> for first, second in [(1.0, 2.0), (0.5, 1.9), (0.4, 1.8)]:
        ...     losses = [ops.array([first]), ops.array([second])]
        ...     total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.9286 0.0714]

    Reference:
        R. Groenendijk, S. Karaoglu, T. Gevers, T. Mensink. Multi-loss weighting
        with coefficient of variations. WACV 2021.
    """

    needs_positive_losses = True

    def first_weights(self) -> Tensor:
        return 1.0 / self.num_branches

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = (self.num_branches,)
        self.seen = self.add_state("seen", shape)
        self.mean_loss = self.add_state("mean_loss", shape)
        self.mean_ratio = self.add_state("mean_ratio", shape)
        self.squares = self.add_state("squares", shape)

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        if not training:
            return self.loss_weights, 0.0
        seen, mean_loss = self.seen * 1.0, self.mean_loss * 1.0
        mean_ratio, squares = self.mean_ratio * 1.0, self.squares * 1.0

        # The weights come from the steps before this one.
        std = ops.sqrt(squares / ops.maximum(seen, 1.0) + 1e-8)
        variation = std / ops.maximum(mean_ratio, 1e-12)
        weights = variation / ops.sum(variation)
        weights = ops.where(ops.all(seen >= 2), weights, 1.0 / self.num_branches)

        ratios = ops.where(seen > 0, ratio(means, mean_loss), 1.0)
        share = 1.0 / (seen + 1.0)
        new_ratio = mean_ratio + share * (ratios - mean_ratio)
        more = (ratios - mean_ratio) * (ratios - new_ratio)
        self.update(self.seen, seen, seen + 1.0, present)
        self.update(self.squares, squares, squares + more, present)
        self.update(self.mean_ratio, mean_ratio, new_ratio, present)
        new_loss = mean_loss + share * (means - mean_loss)
        self.update(self.mean_loss, mean_loss, new_loss, present)
        return weights, 0.0
