"""Checks the shapes that losses are called on, and aligns them."""

from __future__ import annotations

from typing import Any

from keras import ops

from lossweigh._types import Mask, Shape, Tensor
from lossweigh.branches.masking import match_rank


def number_a_sample(name: str, tensor: Tensor) -> Tensor:
    """`(batch,)` from `(batch,)` or `(batch, 1)`."""
    shape = tuple(tensor.shape)
    if len(shape) == 2 and shape[1] == 1:
        return ops.squeeze(tensor, -1)
    if len(shape) != 1:
        raise ValueError(
            f"`{name}` must have the shape (batch,), one number a sample. "
            f"Received: {name} of shape {shape}."
        )
    return tensor


def vectors(**tensors: Any) -> None:
    """Tensors, or their shapes, are `(batch, features)`, all of the same shape."""
    shapes = [tuple(getattr(tensor, "shape", tensor)) for tensor in tensors.values()]
    for name, shape in zip(tensors, shapes, strict=True):
        if len(shape) != 2 or not fits(shape, shapes[0]):
            same = "" if len(shapes) == 1 else ", the same for all"
            raise ValueError(
                f"`{name}` must have the shape (batch, features), one vector a "
                f"sample{same}. Received the shapes "
                f"{dict(zip(tensors, shapes, strict=True))}."
            )


def one_output(loss: str, prediction: Any) -> Shape:
    """The shape of the prediction, which must be one, not a list of several."""
    if prediction and isinstance(prediction[0], (list, tuple)):
        raise ValueError(
            f"{loss} takes one output. Received {len(prediction)}, of the shapes "
            f"{[tuple(shape) for shape in prediction]}."
        )
    return tuple(prediction)


def target_and_output(loss: str, tensors: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The two tensors of a loss of one output."""
    if len(tensors) != 2:
        raise ValueError(
            f"{loss} takes one target and one output. Received {len(tensors)} tensors."
        )
    return tensors[0], tensors[1]


def same_rank(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors, `(batch,)` as `(batch, 1)` if the other has two axes."""
    if (len(first.shape), len(second.shape)) == (1, 2):
        first = ops.expand_dims(first, -1)
    if (len(first.shape), len(second.shape)) == (2, 1):
        second = ops.expand_dims(second, -1)
    return first, second


def fits(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether two shapes may be the same, `None` being any size."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def zero_invalid(tensor: Tensor, valid: Mask) -> Tensor:
    """Predictions, with 0 for elements that don't count, which may be nan."""
    if valid is None:
        return tensor
    valid = match_rank(ops.cast(valid, "bool"), len(tensor.shape), ops.any)
    return ops.where(valid, tensor, ops.zeros_like(tensor))


def valid_samples(valid: Mask) -> Mask:
    """Which samples have a valid element: bool `(batch,)`, `None` if all do."""
    return None if valid is None else match_rank(ops.cast(valid, "bool"), 1, ops.any)
