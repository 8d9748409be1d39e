"""What a training model reports: branch losses and weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _backend

SUSPECTS = "suspects"


class VectorMean(keras.metrics.Metric):
    """The running mean of a vector: one update for all branches, not one each.

    Args:
        size: Length of the vector.
        name: Name of the metric.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(name=name)
        self.total = self.add_variable((size,), "zeros", name="total")
        self.count = self.add_variable((size,), "zeros", name="count")

    def update_state(self, values: Any, counts: Any) -> None:
        """Adds `values`, `(size,)`, the means of `counts`, `(size,)`, samples."""
        counts = ops.cast(counts, self.total.dtype)
        self.total.assign(self.total + ops.cast(values, self.total.dtype) * counts)
        self.count.assign(self.count + counts)

    def result(self) -> Any:
        return ops.divide_no_nan(self.total, self.count)


class Suspects(keras.metrics.Metric):
    """Counts the numbers of data sets that don't fit, until somebody is told.

    Keras resets metrics before each epoch and each validation; these go on.

    Args:
        size: Length of the vector of counts.
    """

    def __init__(self, size: int) -> None:
        super().__init__(name=SUSPECTS)
        self.counts = self.add_variable((size,), "zeros", name="counts")

    def update_state(self, counts: Any) -> None:
        """Adds `counts`, `(size,)`."""
        self.counts.assign(self.counts + ops.cast(counts, self.counts.dtype))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.counts)

    def reset_state(self) -> None:
        pass


class BranchLogs:
    """Holds a training model's tracker of losses and weights, and names its results.

    Not a Keras object itself, so that a model that is compiled again drops the
    tracker of the first time.

    Args:
        branches: The branches' names.
        balanced: Whether a balancer weighs the branches' gradients too.

    Attributes:
        by_element: The ids of metrics that count each label by itself.
        output_of: The metrics' logs, and the output of each.
    """

    def __init__(self, branches: Sequence[str], *, balanced: bool = False) -> None:
        self.branches = list(branches)
        self.parts = ["loss", "weight", *(["balance"] if balanced else [])]
        size = len(self.parts) * len(self.branches)
        self.tracker = VectorMean(size, name="branch_losses_and_weights")

        self.suspects = Suspects(2 * len(self.branches))
        self.by_element: set[int] = set()
        self.output_of: dict[str, str] = {}

    @property
    def metrics(self) -> list[Any]:
        """Keras metrics, for the model to reset and to carry on JAX."""
        return [self.tracker, self.suspects]

    def warn_of_suspects(self, num_classes: Mapping[str, int]) -> None:
        """Tells which numbers don't fit, and begins to count anew.

        Args:
            num_classes: By branch, where targets are class indices.
        """
        counts = ops.convert_to_numpy(self.suspects.counts.value)
        if not counts.any():
            return
        self.suspects.counts.assign(np.zeros_like(counts))
        size = len(self.branches)
        for branch, in_target, in_weights in zip(
            self.branches, counts[:size], counts[size:], strict=True
        ):
            if in_target:
                warnings.warn(
                    f"The target of the branch {branch!r} must hold class indices, "
                    f"whole numbers from 0 to {num_classes[branch] - 1}. The data set "
                    f"gave {in_target:.0f} others, and the losses, metrics and "
                    "gradients of these batches are wrong.",
                    stacklevel=2,
                )
            if in_weights:
                warnings.warn(
                    f"`sample_weight` of {branch!r} must hold finite numbers of at "
                    f"least 0. The data set gave {in_weights:.0f} others, and the "
                    "losses, metrics and gradients of these batches are wrong.",
                    stacklevel=2,
                )

    def update_losses(
        self,
        losses: Sequence[Any],
        counts: Sequence[Any],
        weights: Any,
        balance: Any = None,
    ) -> None:
        """Adds a batch.

        Args:
            losses: One tensor `(batch,)` a branch.
            counts: For each branch how many elements its loss is the mean of; `None`
                for the number of rows.
            weights: `(K,)`, the loss weights in force.
            balance: `(K,)`, the balancer's weights, if there is one.
        """
        stacked = _backend.stack(losses)
        means = ops.mean(stacked, axis=-1)
        parts = [means, weights, *([] if balance is None else [balance])]
        parts = [ops.cast(part, means.dtype) for part in parts]
        rows = ops.cast(ops.shape(stacked)[1], means.dtype)
        size = len(self.parts) * len(self.branches)
        if all(count is None for count in counts):
            every = ops.broadcast_to(rows, (size,))
        else:
            every = [rows if count is None else count for count in counts]
            every = _backend.stack([*every, *[rows] * (size - len(every))])
        self.tracker.update_state(ops.concatenate(parts), every)

    def result(self) -> dict[str, Any]:
        """Means since the last reset, by log name."""
        size = len(self.branches)
        means = _backend.unstack(self.tracker.result(), len(self.parts) * size)
        logs = {f"{b}_loss": means[i] for i, b in enumerate(self.branches)}
        logs["unweighted_loss"] = sum(means[1:size], means[0])
        for number, part in enumerate(self.parts[1:], start=1):
            for i, branch in enumerate(self.branches):
                logs[f"{branch}_{part}"] = means[number * size + i]
        return logs
