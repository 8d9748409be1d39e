"""What a loss must give: one value for each sample, or more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from lossweigh._types import Shape
from lossweigh.branches.keras_losses import is_of_batches
from lossweigh.branches.loss_resolution import loss_name

_NAME_THE_MASK = (
    "Name an input or output of the model that holds the mask (batch, time) or the "
    'lengths (batch,), as in `BranchLoss(loss, mask="lengths")`, or say `mask=False` '
    "if every step is real."
)


def check_result(what: str, loss: Any, shape: Shape, rows: int | None) -> None:
    """Refuses a result that isn't `(batch,)` or `(batch, ...)`.

    Args:
        what: The loss and its branch, for the message.
        loss: The loss.
        shape: The shape of what it gave.
        rows: A size of the batch that only the batch's axis has; `None` if it may be
            another one's too.
    """
    what = f"{what} returned"
    if not shape and is_of_batches(loss):
        loss_class = loss_name(loss).capitalize()
        raise ValueError(
            f"{what} a scalar: one number for the whole batch. Give it the axes of a "
            "sample: for a prediction of shape (batch, height, width, classes) write "
            f"`keras.losses.{loss_class}(axis=(1, 2, 3))`."
        )
    if not shape:
        raise ValueError(
            f"{what} a scalar: one number for the whole batch. Expected one a sample, "
            "(batch,), or a tensor of them, (batch, ...). Leave out the mean over the "
            "batch: write `ops.mean(..., axis=-1)`, not `ops.mean(...)`."
        )
    if rows is not None and shape[0] != rows:
        raise ValueError(
            f"{what} {shape[0]} values for a batch of {rows}. Expected one a sample, "
            "(batch,), or a tensor of them, (batch, ...). A loss of groups of samples "
            "gives each of them its group's value: `ops.repeat(values, "
            "size_of_group, axis=0)`."
        )
    if rows is not None and rows in shape[1:]:
        raise ValueError(
            f"{what} a value for each pair of samples, (batch, batch): the target and "
            "the prediction were broadcast against each other. Give the target the "
            "prediction's shape: `BranchLoss(..., target_shape=(1,))` for a prediction "
            "(batch, 1)."
        )


def check_weight_shapes(
    of_branch: str, shape: Shape, tensors: Mapping[str, Any]
) -> None:
    """Refuses masks and weights that aren't a leading part of the prediction's shape.

    Args:
        of_branch: The branch, for the message.
        shape: The prediction's.
        tensors: `mask` and `sample_weight`, or `None`, by name.
    """
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        received = tuple(tensor.shape)
        ok = 1 <= len(received) <= len(shape) and all(
            a is None or b is None or a == b or (name != "mask" and a == 1)
            for a, b in zip(received, shape, strict=False)
        )
        if not ok:
            raise ValueError(
                f"`{name}`{of_branch} must have the shape (batch,) or a leading part "
                f"of the prediction's shape, {shape}. "
                f"Received: {name} of shape {received}."
            )


def failure(what: str, tensors: Any, error: Exception) -> str:
    """What to say of a loss that fails where the training model is built.

    Args:
        what: The loss and its branch.
        tensors: What it was called on.
        error: What it raised.
    """
    shapes = ", ".join(
        str(("batch", *tensor.shape[1:])).replace("'", "")
        for tensor in keras.tree.flatten(tensors)
    )
    reason = str(error).rstrip(". ")
    return (
        f"{what} failed on tensors of the shapes {shapes}: {reason}. If its target has "
        "another shape than the prediction, say so: `BranchLoss(..., "
        "target_shape=..., target_dtype=...)`."
    )


def no_class(what: str, error: Exception) -> str:
    """What to say of a class index that is out of range."""
    return (
        f"{what} must have class indices as targets, whole numbers from 0 to one less "
        f"than the number of classes. Received a batch with another one: {error}"
    )


def lost_mask(of_branch: str, loss: Any) -> str:
    """What to say where a loss over time steps needs a mask that was lost."""
    return (
        f"The mask{of_branch} was lost: the prediction model starts one and a layer on "
        f"the way doesn't pass it on, so the loss {loss_name(loss)!r} can't tell real "
        f"steps from padded ones. {_NAME_THE_MASK}"
    )


def no_mask(of_branch: str, loss: Any) -> str:
    """What to say where another loss gets no mask, and should perhaps."""
    return (
        f"No mask arrives at the loss {loss_name(loss)!r}{of_branch}, though the "
        "prediction model starts one: if its second axis is time, padded steps count. "
        f"{_NAME_THE_MASK}"
    )


def classes_not_last(what: str, axis: int) -> str:
    """What to say where labels are told from others along the last axis."""
    return (
        f"{what} must be for a loss along the prediction's last axis. Received a loss "
        f"with axis={axis}. Give the model a further output with the classes last, "
        f"`keras.ops.moveaxis(output, {axis}, -1)`, and the loss axis=-1."
    )
