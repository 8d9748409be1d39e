"""What a batch tells of its points: the loss of each, without a gradient."""

from __future__ import annotations

import dataclasses

from keras import ops

from lossweigh import _replicas
from lossweigh._types import Mask, Tensor


@dataclasses.dataclass(frozen=True)
class PointLosses:
    """What a batch tells of its points. Nothing of it has a gradient.

    Where several replicas have a part of the batch each, its rows are those of all.

    A row *counts* if it has a label, a weight other than 0, an index in range and a
    loss that is finite.

    Attributes:
        index: `(batch,)` int32, each row's point.
        losses: `(batch,)` float32, the loss of each row's point: the mean over its
            rows in the batch that count, 0 without one.
        rows: `(batch,)` float32, how many rows these are.
        counted: `(batch,)` float32, 1 for a row that counts, else 0.
    """

    index: Tensor
    losses: Tensor
    rows: Tensor
    counted: Tensor


def point_losses(
    loss: Tensor, index: Tensor, in_range: Mask, valid: Mask, sample_weight: Tensor
) -> tuple[PointLosses, Tensor]:
    """What a batch tells of its points.

    Args:
        loss: `(batch,)`, the branch's.
        index: `(batch,)` int32, each row's point.
        in_range: `(batch,)` bool, false where the row has none.
        valid: As for `PointWeights`.
        sample_weight: As for `PointWeights`.

    Returns:
        This, and the positions of the argument's rows in it, `None` if they are all.
    """
    loss = ops.stop_gradient(loss)
    counts = ops.logical_and(in_range, ops.isfinite(loss))
    labelled = ops.ones_like(counts) if valid is None else _any_of_row(valid > 0)
    counts = ops.logical_and(counts, labelled)
    if sample_weight is not None:
        counts = ops.logical_and(counts, _any_of_row(sample_weight != 0))
    row_by_row = [index, loss, *(ops.cast(m, loss.dtype) for m in (labelled, counts))]
    (index, loss, labelled, counted), positions = _replicas.of_all_rows(row_by_row)
    # A row's share of the batch's mean grows with the rows that have no label.
    loss = ops.where(counted > 0, loss * ops.mean(labelled), 0.0)
    losses, rows = _sums_by_point([loss, counted], index)
    batch = PointLosses(index, losses / ops.maximum(rows, 1.0), rows, counted)
    return batch, positions


def _any_of_row(mask: Mask) -> Mask:
    """`(batch,)`, from `(batch, ...)`."""
    axes = tuple(range(1, len(mask.shape)))
    return ops.any(mask, axis=axes) if axes else mask


def _sums_by_point(vectors: list[Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the sums of two vectors `(batch,)` over the rows of its point.

    The rows of a point have the same place in the sorted index. Sums in a vector with
    an element for each point would take as long as there are points.
    """
    places = ops.searchsorted(ops.sort(index), index)
    both = ops.stack(vectors, axis=-1)
    sums = ops.segment_sum(both, places, num_segments=ops.shape(index)[0])
    sums = ops.take(sums, places, axis=0)
    return sums[:, 0], sums[:, 1]
