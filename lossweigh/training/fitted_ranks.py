"""Targets and weights as given, with the rank that their inputs have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossweigh import _backend
from lossweigh.branches.masking import fits
from lossweigh.training.array_likes import with_shape


def fitted_weight(name: str, value: Any, shape: Sequence[int | None]) -> Any:
    """Sample weights of the rank that their input has, or a worded error.

    Args:
        name: The input's name.
        value: `(batch,)`, or a leading part of the prediction's shape.
        shape: The input's.
    """
    value, received = with_shape(name, value)
    if received is None:
        return value
    if len(shape) == 1 and received[1:] == (1,):
        return value[..., 0]
    if not 1 <= len(received) <= len(shape):
        raise ValueError(
            f"`sample_weight` of {name.removesuffix('_sample_weight')!r} must "
            f"have 1 to {len(shape)} axes, (batch,) or a leading part of "
            f"the prediction's shape. Received the shape {received}."
        )
    for _ in range(len(shape) - len(received)):
        value = value[..., None]
    return value


def fitted_target(name: str, value: Any, shape: Sequence[int | None]) -> Any:
    """A target of the rank that its input has, or a worded error.

    Args:
        name: The input's name.
        value: Of this shape, or with an axis of size 1 at the end more or less.
        shape: The input's.
    """
    value, received = with_shape(name, value)
    if received is None:
        return value
    branch = name.removesuffix("_target")
    # A fixed batch size isn't looked at: these may be all rows of an array.
    got, want = received[1:], tuple(shape[1:])
    if not (
        fits(got, want)
        or (got[-1:] == (1,) and fits(got[:-1], want))
        or (want[-1:] == (1,) and fits(got, want[:-1]))
    ):
        raise ValueError(
            f"The target of the branch {branch!r} must have the shape {shape}. "
            f"Received an array of shape {received}. (For a loss of your own whose "
            "target isn't shaped like the prediction, give "
            "`BranchLoss(..., target_shape=...)`. One-hot targets need "
            '"categorical_crossentropy", class indices the sparse one.)'
        )
    # One rank for all batches, or TensorFlow traces a step of unknown rank.
    if len(received) > len(shape):
        value = value[..., 0]
    elif len(received) < len(shape):
        value = value[..., None]
    return _backend.ensure_shape(value, (None, *want))
