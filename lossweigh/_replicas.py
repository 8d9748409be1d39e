"""Numbers of a whole batch, where several replicas have a part of it each.

The replicas of one model take a step together. Each computes the losses and gradients
of some rows. The optimizer, or torch's `DistributedDataParallel`, adds the gradients
up. What isn't linear in the rows has to be added up before it is used.

All functions give tensors without a gradient, and their argument where there is one
replica.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from lossweigh import _backend


def total(tensor: Any) -> Any:
    """The sum over the replicas."""
    return totals([tensor])[0]


def totals(tensors: list[Any]) -> list[Any]:
    """The sum of each tensor over the replicas."""
    if _backend.replicas() == 1:
        return tensors
    return _backend.sum_over_replicas([ops.stop_gradient(one) for one in tensors])


def mean(tensor: Any) -> Any:
    """The mean over the replicas."""
    number = _backend.replicas()
    return tensor if number == 1 else total(tensor) / number


def on_any(mask: Any) -> Any:
    """Bool: where the mask is true on one replica at least."""
    if _backend.replicas() == 1:
        return mask
    return total(ops.cast(mask, "float32")) > 0


def of_the_first(tensor: Any) -> Any:
    """The first replica's, on all: random numbers that each has drawn."""
    if _backend.replicas() == 1:
        return tensor
    is_first = ops.equal(_backend.replica_number(), 0)
    return total(ops.where(is_first, tensor, 0.0))


def of_all_rows(tensors: list[Any]) -> tuple[list[Any], Any]:
    """The rows of all replicas, and the positions of this replica's among them.

    Args:
        tensors: With as many rows each, this replica's.

    Returns:
        The tensors with all rows, in the same order on each replica. And the positions
        of this replica's rows, int32, or `None` where there is one replica.
    """
    number = _backend.replicas()
    if number == 1:
        return tensors, None
    rows = ops.shape(tensors[0])[0]
    numbers = ops.arange(number)
    sizes = total(ops.where(numbers == _backend.replica_number(), rows, 0))
    before = ops.sum(ops.where(numbers < _backend.replica_number(), sizes, 0))
    whole = _backend.rows_of_all_replicas([ops.stop_gradient(one) for one in tensors])
    return whole, before + ops.arange(rows)
