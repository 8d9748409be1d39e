"""Targets: which are missing, and how much each one's class weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.branches.loss_resolution import loss_name

MOST_CLASSES = 10**6  # where a loss doesn't say how many: the weights are a table


def split_labels(y_true: Tensor, missing: str | float | None) -> tuple[Mask, Tensor]:
    """Which labels exist, and the labels with 0 for missing ones.

    Args:
        y_true: Targets of any shape.
        missing: As for `BranchLoss`.

    Returns:
        As `labelled`; and the targets.
    """
    is_labelled = labelled(y_true, missing)
    if is_labelled is None:
        return None, y_true
    return is_labelled, ops.where(is_labelled, y_true, 0)


def labelled(y_true: Tensor, missing: str | float | None) -> Mask:
    """Where a label exists: bool of the targets' shape; `None` for everywhere."""
    if missing is None:
        return None
    if missing != "nan":
        return ops.not_equal(y_true, ops.cast(missing, y_true.dtype))
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_true.dtype)):
        return None  # an integer is never nan
    return ops.logical_not(ops.isnan(y_true))


def weight_of_class(
    y_true: Tensor,
    class_weight: Mapping[int, float] | None,
    axis: int | None,
) -> Tensor:
    """The weight of each label's class, or `None` without class weights.

    Args:
        y_true: Targets without missing labels.
        class_weight: Dict from class index to weight, or `None`.
        axis: Along which targets are vectors of classes; `None` where each number is a
            class: an index, or 0 or 1.

    Returns:
        A float32 tensor with one weight a label.
    """
    if not class_weight:
        return None
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) > 1:
        if y_true.shape[-1] == 1 and axis in (None, -1):
            y_true = ops.squeeze(y_true, -1)
        elif axis is not None:
            y_true = ops.argmax(y_true, axis=axis)
    if keras.backend.is_float_dtype(y_true.dtype):
        y_true = ops.round(ops.where(ops.isnan(y_true), 0.0, y_true))
    size = max(class_weight) + 2  # the last entry is every unnamed class's
    table = np.ones(size, "float32")
    for index, value in class_weight.items():
        table[index] = value
    index = ops.cast(y_true, "int32")
    index = ops.where(index < 0, size - 1, ops.minimum(index, size - 1))
    return ops.take(ops.convert_to_tensor(table), index, axis=0)


def check_class_weight(
    name: str, class_weight: Mapping[int, float] | None
) -> dict[int, float] | None:
    """A dict from class index (>= 0) to weight (>= 0), or `None`."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping) or not class_weight:
        raise TypeError(
            f"`{name}` must be a dict from class index to weight, as in "
            f"{{0: 0.5, 1: 4.0}}. Received: {name}={class_weight!r}."
        )
    checked = {}
    for index, value in class_weight.items():
        if not _is_index(index):
            raise ValueError(
                f"`{name}` must have class indices, integers of at least 0, as keys. "
                f"Received the key {index!r} in {name}={dict(class_weight)}."
            )
        checked[int(index)] = _check.not_negative(f"{name}[{index}]", value)
    return checked


def _is_index(index: Any) -> bool:
    try:
        return not isinstance(index, bool) and int(index) == index and index >= 0
    except (TypeError, ValueError):
        return False


def check_class_range(
    what: str,
    loss: Any,
    class_weight: Mapping[int, float],
    num_classes: int | None,
    *,
    has_classes: bool,
) -> None:
    """Refuses class weights for classes that don't exist.

    Args:
        what: The argument, for the message.
        loss: The loss.
        class_weight: From class index to weight.
        num_classes: How many classes there are, `None` if that isn't known.
        has_classes: Whether the loss's targets are classes.
    """
    if not has_classes:
        raise ValueError(
            f"{what} must be left out: the loss {loss_name(loss)!r} has no classes, it "
            "counts as a regression. Give samples weights with `fit(..., "
            "sample_weight={branch: weights})`. If it is a loss of your own whose "
            "targets are classes, say so by an attribute: `loss.task_type = "
            '"classification"`.'
        )
    number = MOST_CLASSES if num_classes is None else num_classes
    unknown = [index for index in class_weight if index >= number]
    if unknown:
        raise ValueError(
            f"{what} must have class indices from 0 to {number - 1} as keys. "
            f"Received: {unknown[0]}."
        )


def check_missing(missing: Any) -> str | float | None:
    """`None`, `"nan"` or a number."""
    if missing is None or missing == "nan":
        return missing
    if isinstance(missing, float) and missing != missing:
        return "nan"
    if isinstance(missing, (str, bool)):
        raise ValueError(
            "`missing` must be None, 'nan', or the number that marks a missing "
            f"label, such as -1. Received: missing={missing!r}."
        )
    return _check.number("missing", missing)
