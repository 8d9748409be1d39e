"""Liu et al.: fast adaptive multitask optimisation (FAMO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.weighting.adaptive import log_where, softmax_where
from lossweigh.weighting.learned import AdamWeighter


@keras.saving.register_keras_serializable(package="lossweigh")
class FAMO(AdamWeighter):
    """FAMO: weights learned so that all losses fall at the same relative rate.

        z = softmax(p),  D_k = L_k - b_k + 1e-8,  c = 1 / sum_k (z_k / D_k)
        total = c sum_k z_k log D_k
        p descends by Adam on  J^T (log D(before) - log D(after)) + decay p

    with `L_k` the loss of branch k, `b_k` the loss that it could reach at best,
    `p` learned from 0, `J` the Jacobian of the softmax and `c` held constant in
    the gradient. A branch whose loss fell less than the others' gets a larger
    `z`. The gradient of branch k is multiplied by `c z_k / D_k`; these weights sum
    to 1.

    Differs from the paper: for "after" the paper evaluates the same batch again, after
    the optimizer's step. This layer takes the next step's batch. That saves a forward
    pass, at the price of the noise between two batches. `p` moves before that step's
    weights are computed, as in the paper.

    A branch loss must be positive; an exact 0 counts as absent. A loss at or below
    `b_k` gets no weight. After an absence a branch is compared with its last loss.

    Args:
        learning_rate: Float greater than 0, the learning rate of `p`.
        weight_decay: Float of at least 0, the weight decay of `p`.
        ideal_losses: Optional list of K numbers, `b`, or dict by branch name.
            Default: all 0.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range, or `ideal_losses` doesn't
            hold one number for each branch.

    Examples:
        >>> from keras import ops
        >>> weighter = FAMO()
        >>> losses = [ops.array([1.0]), ops.array([2.0]), ops.array([4.0])]
        >>> total = weighter(losses, training=True)
        >>> print(ops.convert_to_numpy(weighter.loss_weights).round(4))
        [0.5714 0.2857 0.1429]

    Reference:
        B. Liu, Y. Feng, P. Stone, Q. Liu. FAMO: fast adaptive multitask
        optimization. NeurIPS 2023.
    """

    needs_positive_losses = True
    per_branch = ("ideal_losses",)

    def __init__(
        self,
        *,
        learning_rate: float = 0.025,
        weight_decay: float = 1e-3,
        ideal_losses: Sequence[float] | Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.weight_decay = _check.not_negative("weight_decay", weight_decay)
        self.ideal_losses = _check.per_branch(
            "ideal_losses", ideal_losses, _check.numbers
        )

    def first_weights(self) -> Tensor:
        return 1.0 / self.num_branches

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        number = self.num_branches
        ideal = _check.in_order("ideal_losses", self.ideal_losses, self.branches)
        self.ideal = _check.numbers("ideal_losses", ideal or [0.0] * number, number)
        # log D of each branch when it was last present, and whether it ever was.
        self.before = self.add_state("before", (number,))
        self.seen = self.add_state("seen", (number,))

    def weigh(
        self, means: Tensor, present: Mask, training: bool
    ) -> tuple[Tensor, Tensor]:
        gaps = means - ops.convert_to_tensor(self.ideal, "float32") + 1e-8
        present = ops.logical_and(present, gaps > 0)
        gaps = ops.where(present, gaps, 1.0)
        logs = log_where(present, gaps)
        parameters = self.parameters * 1.0
        if training:
            parameters = self._learn(parameters, logs, present)
        shares = softmax_where(present, parameters)
        scale = 1.0 / ops.maximum(ops.sum(shares / gaps), 1e-30)
        weights = scale * shares / gaps
        total = scale * ops.sum(shares * logs)
        return weights, ops.where(
            ops.any(present), total - ops.sum(weights * means), 0.0
        )

    def _learn(self, parameters: Tensor, after: Tensor, present: Mask) -> Tensor:
        before, seen = self.before * 1.0, self.seen * 1.0
        known = ops.logical_and(present, seen > 0)
        shares = softmax_where(known, parameters)
        fall = ops.where(known, before - after, 0.0)
        gradient = shares * (fall - ops.sum(shares * fall))
        gradient = gradient + self.weight_decay * parameters
        self.update(self.before, before, after, present)
        self.update(self.seen, seen, ops.ones_like(seen), present)
        return self.descend(parameters, gradient, known)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_decay": self.weight_decay,
            "ideal_losses": self.ideal_losses,
        }
