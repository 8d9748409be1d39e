"""Guo et al.: more weight for the branch whose metric is still low."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossweigh import _check
from lossweigh.callbacks.from_validation import Array, Monitor, WeightsFromValidation
from lossweigh.weighting.fixed_weights import FixedWeights

_NEAREST = 1e-7  # to 0 and to 1


class DynamicTaskPriority(WeightsFromValidation):
    """Dynamic task prioritization: difficult tasks first, by a metric of each.

        m_k(t) = a metric_k(t) + (1 - a) m_k(t - 1)
        w_k    = -(1 - m_k)^g log m_k

    with `metric_k(t)` a metric of branch k in the validation t, from 0 to 1 and better
    when larger (an accuracy, an intersection over union); the first one starts `m_k`.
    `w_k` is large where `m_k` is near 0, and goes to 0 where it nears 1.

    The weights sum to no fixed number, as in the paper: all become small as all
    metrics near 1, which makes the effective learning rate of an optimizer such as
    `SGD` smaller. The paper has a `g` for each task, takes the metric in each step of
    training, and weighs the samples within a task in the same way; here the metric is
    that of the validation, in each epoch, and samples weigh the same. A metric nearer
    than 1e-7 to 0 or 1 counts as that near.

    State, resumption and warnings are described in `WeightsFromValidation`.

    Args:
        monitor: The name of each branch's metric, as `fit` logs it: a string in which
            `{branch}` stands for the branch's name, or a dict by branch name.
        discount: a, a number from 0 to 1, the share of the newest metric. (0 keeps
            the first one.)
        focus: g, a number of at least 0.

    Raises:
        ValueError: If an argument is out of its bounds, of a metric less is better,
            and as `WeightsFromValidation`.
        TypeError: As `WeightsFromValidation`.

    Examples:
        >>> priority = DynamicTaskPriority("val_{branch}_accuracy")
        >>> # training.compile("adam", metrics={"kind": ["accuracy"], ...})
        >>> # training.fit(..., callbacks=[priority])
        >>> memory = {}
        >>> print(priority.weigh(np.array([0.5, 0.9]), memory).round(4))
        [0.3466 0.0105]
        >>> print(priority.weigh(np.array([0.6, 0.92]), memory).round(4))
        [0.269  0.0085]

    Reference:
        M. Guo, A. Haque, D.-A. Huang, S. Yeung, L. Fei-Fei. Dynamic task prioritization
        for multitask learning. ECCV 2018.
    """

    needs = "a metric from 0 to 1"

    def __init__(
        self, monitor: Monitor, *, discount: float = 0.5, focus: float = 1.0
    ) -> None:
        super().__init__(monitor)
        self.discount = _check.between("discount", discount, 0.0, 1.0)
        self.focus = _check.not_negative("focus", focus)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        for branch, log in self.logs_by_branch.items():
            if self.directions.get(log.removeprefix("val_")) == "min":
                raise ValueError(
                    "`monitor` must name metrics of which more is better, such as "
                    f"accuracies. Received {log!r} for the branch {branch!r}, of which "
                    "less is better. Give `compile` another metric of that output."
                )

    def is_usable(self, value: float) -> bool:
        return 0 <= value <= 1

    def advance(self, values: Array, weighter: FixedWeights) -> None:
        weighter.assign(self.weigh(values, weighter.memory).tolist())

    def weigh(self, metrics: Array, memory: dict[str, Array]) -> Array:
        """The weights after a validation.

        Args:
            metrics: `(K,)`, its metrics.
            memory: What was remembered of those before; it is moved on.

        Returns:
            `(K,)`.
        """
        before = memory.get("dynamic_task_priority", metrics)
        average = self.discount * metrics + (1 - self.discount) * before
        memory["dynamic_task_priority"] = average
        near = np.clip(average, _NEAREST, 1 - _NEAREST)
        return -((1 - near) ** self.focus) * np.log(near)
