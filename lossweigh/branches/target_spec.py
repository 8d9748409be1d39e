"""The shape and dtype of a branch's targets."""

from __future__ import annotations

import abc
import numbers
from typing import Any

import keras
import numpy as np

from lossweigh._types import BranchName, Shape


class TargetSpec(abc.ABC):
    """A loss whose target isn't shaped like the prediction, and that says its shape."""

    @abc.abstractmethod
    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        """Shape, batch axis included, and dtype of the targets.

        Args:
            prediction: Shape of the prediction, batch axis included, or a list of
                shapes for several predictions.
        """

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        """Raises a worded error for numbers that can't be targets.

        Args:
            branch: Name of the branch.
            target: All targets that `fit` received, without the missing ones.
        """
        return


def infer_target_spec(
    prediction: Any,
    loss: Any,
    *,
    is_sparse: bool,
    class_axis: int,
    target_shape: Shape | None,
    target_dtype: str | None,
    may_be_nan: bool,
) -> tuple[Shape, str]:
    """Shape, batch axis included, and dtype of the targets that a loss takes.

    Args:
        prediction: What the loss looks at: a tensor, or a list of several.
        loss: The loss.
        is_sparse: Whether targets are class indices.
        class_axis: The axis of the prediction that has a number for each class.
        target_shape: A sample's, if it is known.
        target_dtype: Likewise.
        may_be_nan: Whether nan marks a missing label, which no whole number can be.
    """
    several = isinstance(prediction, (list, tuple))
    first = prediction[0] if several else prediction
    shape, dtype = tuple(first.shape), "float32"
    if target_shape is not None:
        shape = (shape[0], *target_shape)
    elif isinstance(loss, TargetSpec):
        shapes = keras.tree.map_structure(lambda t: list(t.shape), prediction)
        shape, dtype = loss.target_spec(shapes)
    elif several:
        # A column where one of them is: a vector would be broadcast against it, to
        # (batch, batch).
        columns = any(tuple(t.shape)[1:] == (1,) for t in prediction)
        shape = (shape[0], 1) if columns else shape[:1]
    elif is_sparse:
        shape = without(shape, class_axis)
    if target_dtype is not None:
        return shape, target_dtype
    dtype = "int32" if is_sparse else dtype
    return shape, "float32" if may_be_nan else dtype


def checked_shape(target_shape: Any) -> Shape | None:
    """The argument `target_shape` as a tuple.

    Raises:
        TypeError: If it isn't a list or tuple of sizes.
    """
    if target_shape is None:
        return None
    is_list = isinstance(target_shape, (list, tuple))
    if not is_list or not all(
        size is None or (_is_whole(size) and size >= 0) for size in target_shape
    ):
        raise TypeError(
            "`target_shape` must be the shape of a sample's target, a tuple of whole "
            "numbers of at least 0, such as `(3,)` or `()`, with `None` for an axis of "
            f"any size. Received: target_shape={target_shape!r}."
        )
    return tuple(target_shape)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    """A shape without one of its axes."""
    axis = axis % len(shape)
    return shape[:axis] + shape[axis + 1 :]
