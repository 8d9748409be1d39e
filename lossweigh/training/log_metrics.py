"""The metrics that a training model keeps for its logs."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _backend

SUSPECTS = "suspects"


class VectorMean(keras.metrics.Metric):
    """The running mean of a vector: one update for all branches, not one each.

    Args:
        size: Length of the vector.
        name: Name of the metric.

    Attributes:
        recent: `(n, 2, size)`: the sums and counts of the last n batches of training,
            in their order, zeros before the first. Unlike means they can be added up
            over replicas. `None` if nobody reads them.
        batches: How many batches of training there have been since; `None` likewise.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(name=name)
        self.total = self.add_variable((size,), "zeros", name="total")
        self.count = self.add_variable((size,), "zeros", name="count")
        self.recent: Any = None
        self.batches: Any = None

    def keep_recent(self, number: int) -> bool:
        """Keeps so many of the last batches in `recent`, or more.

        Returns:
            Whether it did not before: then a step must be traced anew.
        """
        if self.recent is not None and self.recent.shape[0] >= number:
            return False
        shape = (number, 2, *self.total.shape)
        self.recent = self.add_variable(shape, "zeros", name="recent")
        if self.batches is None:
            self.batches = self.add_variable(
                (), "zeros", "int32", "only_first_replica", "batches"
            )
        return True

    def update_state(self, values: Any, counts: Any, training: bool = False) -> None:
        """Adds `values`, `(size,)`, the means of `counts`, `(size,)`, samples."""
        counts = ops.cast(counts, self.total.dtype)
        sums = ops.cast(values, self.total.dtype) * counts
        self.total.assign(self.total + sums)
        self.count.assign(self.count + counts)
        if training and self.recent is not None:
            newest = _backend.stack([_backend.stack([sums, counts])])
            before = ops.convert_to_tensor(self.recent)[1:]
            self.recent.assign(ops.concatenate([before, newest]))
            self.batches.assign(self.batches + 1)

    def reset_state(self) -> None:
        """Begins anew with the means; a validation comes before an epoch's end."""
        for variable in (self.total, self.count):
            variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

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
