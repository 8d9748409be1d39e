"""Defossez et al.: the loss balancer of EnCodec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer, StepStatistics


@keras.saving.register_keras_serializable(package="lossweigh")
class NormBalancer(Balancer):
    """Gives each branch a fixed share of the combined gradient's length.

        w_k = R (s_k / sum_j s_j) / m_k

    with `m_k` the moving average of `||g_k||`, the length of the gradient of branch
    k, `s_k` the branch's share and `R` the total length. It averages the steps so far,
    this one included, with powers of `momentum` as weights (an average that starts from
    0, divided by the sum of its weights).

    The weights sum to no fixed number: the lengths of the weighted gradients sum to
    about `R`, whatever the scale of the losses. A gradient that has always been 0 has
    the weight 0. Identical branches with equal shares have equal weights. For K = 1 the
    weight is `R` over the average length. With a branch absent, the others share `R`,
    and its average stays.

    `solve` is the first step, in which the average is the length itself.

    Args:
        preferences: Numbers of at least 0, `s`, one a branch, in a list in the order
            of the branches or in a dict by branch name. Default: equal.
        momentum: Float between 0 and 1, the weight of the past in the average.
        total_norm: Float greater than 0, `R`, or `None` for the sum of the
            averages: as long as the plain sum of gradients could be, so that a
            learning rate that was tuned for it fits.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> weights = NormBalancer().solve(ops.array([[4.0, 0.0], [0.0, 100.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.25 0.05]

    Reference:
        A. Defossez, J. Copet, G. Synnaeve, Y. Adi. High fidelity neural audio
        compression. Transactions on Machine Learning Research, 2023.
    """

    needs_angles = False
    per_branch = ("preferences",)

    def __init__(
        self,
        *,
        preferences: Sequence[float] | Mapping[str, float] | None = None,
        momentum: float = 0.999,
        total_norm: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preferences = _check.per_branch("preferences", preferences, _check.weights)
        self.momentum = _check.between("momentum", momentum, 0.0, 1.0)
        self.total_norm = (
            None if total_norm is None else _check.positive("total_norm", total_norm)
        )

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        # The decayed sums of lengths and of 1, whose ratio is the moving average.
        return {"sums": [0.0] * num_branches, "counts": [0.0] * num_branches}

    def solve(self, gramian: Any, present: Any = None) -> Any:
        lengths, _, nonzero = _cosines.norms_and_cosines(gramian, present)
        return self._weights(ops.where(nonzero, lengths, 0.0), present)

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        present = statistics.present
        lengths, _, nonzero = _cosines.norms_and_cosines(statistics.gramian, present)
        lengths = ops.where(nonzero, lengths, 0.0)
        sums = ops.where(
            present, self.momentum * state["sums"] + lengths, state["sums"]
        )
        counts = ops.where(
            present, self.momentum * state["counts"] + 1.0, state["counts"]
        )
        averages = sums / ops.maximum(counts, 1.0)
        state = {"sums": sums, "counts": counts}
        return self._weights(averages, present), state

    def _weights(self, averages: Any, present: Any) -> Any:
        num = averages.shape[0]
        preferences = self.in_order("preferences") or [1.0] * num
        _check.weights("preferences", preferences, num)
        shares = ops.convert_to_tensor(preferences, dtype="float32")
        shares = shares * _cosines.presence(present, num)
        if self.total_norm is None:
            total = ops.sum(averages * _cosines.presence(present, num))
        else:
            total = self.total_norm
        whole = ops.sum(shares)
        shares = total * (shares / ops.where(whole > 0.0, whole, 1.0))
        known = averages > 0.0
        return ops.where(known, shares / ops.where(known, averages, 1.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "preferences": self.preferences,
            "momentum": self.momentum,
            "total_norm": self.total_norm,
        }
