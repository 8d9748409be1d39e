"""Gong et al.: weights from how validation losses converge (CoBa)."""

from __future__ import annotations

import numpy as np

from lossweigh import _check
from lossweigh.callbacks.from_validation import (
    Array,
    Monitor,
    WeightsFromValidation,
    softmax,
)
from lossweigh.weighting.fixed_weights import FixedWeights


class CoBa(WeightsFromValidation):
    """Convergence balancer: branches are to converge at one pace, and none to diverge.

    After each validation t, with `L_k(t)` the validation loss of branch k:

        l_k = L_k(t) / L_k(1)
        a_k = the slope of l_k over the last N validations, by least squares
        A   = the slope of max_k l_k over these
        R_k = softmax over k of  K a_k / sum_j |a_j|
        S_k = softmax over k of  -n a_k / sum_i |a_k(i)|
        D   = n times the last of the softmax over i of  -tau n A(i) / sum_j |A(j)|
        w_k = K softmax over k of  K (D R_k + (1 - D) S_k)

    where i runs over the last n <= N validations that have slopes, which begin with
    validation `warmup`. `R` weighs branches that fall slowly, compared with the others;
    `S` those that still fall as fast as they did. The divergence factor `D` is near 1
    while the slowest branch falls as fast as before, and goes to 0 when it stops or
    rises: then `S` takes weight from branches that diverge. No weight is below 1/10:
    if one is, all are drawn towards 1 just so far that 0 would become 1/10.

    The weights sum to K, and are all 1 until `warmup` validations have been. In the
    paper and in its authors' code they sum to 1: divide by K. (So here the learning
    rate means the same as for equal weights.) In the paper the validation loss is that
    of a batch of each branch, in each step; here it is that of the whole validation
    data, in each epoch, which needs a smaller `warmup`.

    Losses must be positive. A branch that `StopBranch` has stopped keeps the weight 0,
    while its loss still counts in the rule. State, resumption and warnings are
    described in `WeightsFromValidation`.

    Args:
        window: N, a whole number of at least 2.
        warmup: A whole number from 2 to `window`.
        temperature: tau, a number greater than 0.
        monitor: The name of each branch's log: a string in which `{branch}` stands
            for the branch's name, or a dict by branch name.

    Raises:
        ValueError: If an argument is out of its bounds, and as
            `WeightsFromValidation`.
        TypeError: As `WeightsFromValidation`.

    Examples:
        >>> coba = CoBa(warmup=3)  # training.fit(..., callbacks=[coba])
        >>> memory = {}
        >>> for losses in [(1.0, 2.0, 0.5), (0.8, 1.9, 0.45), (0.65, 1.7, 0.44)]:
        ...     weights = coba.weigh(np.array(losses), memory)
        >>> print((weights / 3).round(4))
        [0.179  0.3727 0.4483]

    Reference:
        Z. Gong, H. Yu, C. Liao, B. Liu, C. Chen, J. Li. CoBa: Convergence balancer for
        multitask finetuning of large language models. EMNLP 2024.
    """

    needs = "a number greater than 0"

    def __init__(
        self,
        *,
        window: int = 200,
        warmup: int = 3,
        temperature: float = 5.0,
        monitor: Monitor = "val_{branch}_loss",
    ) -> None:
        super().__init__(monitor)
        self.window = _check.whole("window", window, at_least=2)
        self.warmup = _check.whole("warmup", warmup, at_least=2)
        if self.warmup > self.window:
            raise ValueError(
                "`warmup` must be at most `window`. Received: "
                f"warmup={self.warmup}, window={self.window}."
            )
        self.temperature = _check.positive("temperature", temperature)

    def is_usable(self, value: float) -> bool:
        return super().is_usable(value) and value > 0

    def advance(self, values: Array, weighter: FixedWeights) -> None:
        weighter.assign(self.weigh(values, weighter.memory).tolist())

    def weigh(self, losses: Array, memory: dict[str, Array]) -> Array:
        """The weights after a validation.

        Args:
            losses: `(K,)`, its losses.
            memory: What was remembered of those before; it is moved on.

        Returns:
            `(K,)`, which sum to K.
        """
        num_branches = len(losses)
        first = memory.setdefault("coba_first", losses)
        # The last N ratios, and behind them the largest of each validation.
        now = np.append(losses / first, np.max(losses / first))
        ratios = self._added(memory, "coba_ratios", now)
        if len(ratios) < self.warmup:
            return np.ones(num_branches)
        slopes = self._added(memory, "coba_slopes", _slopes(ratios))
        last, sizes = slopes[-1, :-1], np.abs(slopes).sum(axis=0)

        relative = softmax(num_branches * _over(last, np.abs(last).sum()))
        absolute = softmax(-len(slopes) * _over(last, sizes[:-1]))
        falls = -self.temperature * len(slopes) * _over(slopes[:, -1], sizes[-1])
        divergence = len(slopes) * softmax(falls)[-1]
        both = divergence * relative + (1 - divergence) * absolute
        weights = softmax(num_branches * both)

        lowest = 1 / (10 * num_branches)
        if np.any(weights < lowest):
            weights = weights * (1 - num_branches * lowest) + lowest
        return num_branches * weights

    def _added(self, memory: dict[str, Array], name: str, row: Array) -> Array:
        """The last N rows that are remembered under a name, with this one."""
        rows = memory.get(name, np.zeros((0, len(row))))
        memory[name] = np.concatenate([rows, [row]])[-self.window :]
        return memory[name]


def _slopes(rows: Array) -> Array:
    """The slope of each column, by least squares."""
    steps = np.arange(len(rows)) - (len(rows) - 1) / 2
    return steps @ rows / (steps @ steps)


def _over(slopes: Array, total: Array) -> Array:
    """`slopes / total`, and 0 where nothing has moved."""
    return slopes / np.where(total > 0, total, 1.0)
