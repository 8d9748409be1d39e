"""Heydari, Thompson & Mehmood: weights from the slopes of the losses."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import AdaptiveWeighter, log_where, softmax

VARIANTS = ("loss_weighted", "normalized", "original")


@keras.saving.register_keras_serializable(package="lossweigh")
class SoftAdapt(AdaptiveWeighter):
    """SoftAdapt: more weight for the loss that falls more slowly, or rises.

        original:       w = softmax(beta s)
        normalized:     w = softmax(beta s / sum_j |s_j|)
        loss_weighted:  w_k ~ f_k exp(beta s_k), scaled to sum to 1

    with `s_k` the slope of branch k's loss over the last `window` steps of
    training, `(newest - oldest) / (window - 1)`, and `f_k` its mean over them.
    In the original variant the branch with the largest loss decides, because its slope
    is largest. The loss-weighted variant, which the authors recommend, also weighs by
    the size of the loss. The normalised variant is free of scale.

    The weights sum to 1. They are all `1 / K` until each branch has had `window`
    losses. The loss-weighted variant needs positive losses; there an exact 0 counts as
    absent.

    Differs from the authors' code in three points. The weights follow every step, not
    every n epochs. The slope is the mean of first-order differences (with `window=2`,
    theirs of first order): noise disturbs it less than their high-order difference at
    the window's oldest point. The normalised variant divides by the sum of the slopes'
    absolute values, because their signed sum can be 0, and reverses the order of the
    weights below 0.

    Args:
        variant: `"loss_weighted"`, `"normalized"` or `"original"`.
        beta: Float. Above 0 the branches whose losses fall more slowly get more weight,
            below 0 the others.
        window: Int of at least 2, the number of steps.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> weighter = SoftAdapt(variant="original", beta=1.0, window=2)
        >>> for first, second in [(3.0, 3.0), (2.0, 1.0)]:
        ...     losses = [ops.array([first]), ops.array([second])]
        ...     total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.7311 0.2689]

    Reference:
        A. A. Heydari, C. A. Thompson, A. Mehmood. SoftAdapt: techniques for
        adaptive loss weighting of neural networks with multi-part loss
        functions. arXiv:1912.12355, 2019.
    """

    def __init__(
        self,
        *,
        variant: str = "loss_weighted",
        beta: float = 0.1,
        window: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.variant = _check.one_of("variant", variant, VARIANTS)
        self.beta = _check.number("beta", beta)
        self.window = _check.whole("window", window, at_least=2)
        self.needs_positive_losses = variant == "loss_weighted"

    def first_weights(self) -> Tensor:
        return 1.0 / self.num_branches

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        # The last losses of each branch, oldest first, and how many there are.
        self.history = self.add_state("history", (self.num_branches, self.window))
        self.seen = self.add_state("seen", (self.num_branches,))

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        if not training:
            return self.loss_weights, 0.0
        before, seen = self.history * 1.0, self.seen * 1.0
        shifted = ops.concatenate([before[:, 1:], means[:, None]], axis=1)
        history = ops.where(present[:, None], shifted, before)
        now_seen = ops.where(present, seen + 1.0, seen)
        self.update(self.history, before, history)
        self.update(self.seen, seen, ops.minimum(now_seen, float(self.window)))

        slopes = (history[:, -1] - history[:, 0]) / (self.window - 1)
        weights = softmax(self._exponents(slopes, history))
        ready = ops.all(now_seen >= self.window)
        return ops.where(ready, weights, 1.0 / self.num_branches), 0.0

    def _exponents(self, slopes: Tensor, history: Tensor) -> Tensor:
        if self.variant == "normalized":
            slopes = ops.divide_no_nan(slopes, ops.sum(ops.abs(slopes)))
        exponents = self.beta * (slopes - ops.max(slopes))
        if self.variant == "loss_weighted":
            sizes = ops.mean(history, axis=1)
            exponents = exponents + log_where(sizes > 0, sizes)
        return exponents

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "variant": self.variant,
            "beta": self.beta,
            "window": self.window,
        }
