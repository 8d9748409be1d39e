"""Where a sequence's last real step is."""

from __future__ import annotations

from keras import ops

from lossweigh._types import Mask, Tensor


def last_step(real: Mask) -> tuple[Tensor, Tensor]:
    """Each sequence's last real step, with padding on either side.

    Args:
        real: `(batch, time)` bool, True at real steps.

    Returns:
        `(batch, time)` bool, True at that step only; and `(batch,)` int32, its index,
        -1 for a sequence without a real step.
    """
    number = ops.cumsum(ops.cast(real, "int32"), axis=1)
    total = ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
    at_last = ops.logical_and(real, ops.equal(number, total))
    order = ops.arange(1, ops.shape(real)[1] + 1, dtype="int32")
    return at_last, ops.sum(ops.where(at_last, order, 0), axis=1) - 1
