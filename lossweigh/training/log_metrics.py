"""The metrics that a training model keeps for its logs."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

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
