"""Which elements of a branch count, and the mean over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _replicas
from lossweigh._types import Mask, Tensor


def per_sample(
    values: Tensor,
    valid: Mask,
    weights: list[Tensor],
    normalize: str = "valid",
    training: bool = False,
) -> Tensor:
    """Values of elements to each sample's share of the batch's mean.

    Args:
        values: `(batch, ...)` float32.
        valid: Bool, a leading or the whole part of the values' shape, or more;
            `None` if every element counts.
        weights: Tensors like `valid`, which multiply; each may be `None`.
        normalize: As for `BranchLoss`.
        training: Whether several replicas, which train a model together, count their
            elements together. Each may evaluate by itself.

    Returns:
        `(batch,)` float32, whose mean is `sum(v s m) / sum(m)`. Of several replicas
        the mean of these means is.
    """
    rank = len(values.shape)
    inner_axes = tuple(range(1, rank))
    if valid is not None:
        valid = match_rank(valid, rank, ops.any)
        if valid.shape != values.shape or None in values.shape:
            valid = ops.broadcast_to(valid, ops.shape(values))
        values = ops.where(valid, values, 0.0)
    weight = None
    for factor in weights:
        if factor is not None:
            factor = match_rank(ops.cast(factor, "float32"), rank, ops.mean)
            weight = factor if weight is None else weight * factor
    if weight is not None:
        values = values * weight
        if normalize == "keras2":
            not_zero = ops.cast(ops.not_equal(weight, 0), "float32")
            values = divide(values, fraction(not_zero, training))
    if valid is None:
        return ops.mean(values, axis=inner_axes) if inner_axes else values
    batch = ops.cast(ops.shape(values)[0], "float32")
    count = ops.sum(ops.cast(valid, "float32"))
    if training:
        batch, count = batch * _backend.replicas(), _replicas.total(count)
    total = ops.sum(values, axis=inner_axes) if inner_axes else values
    return total * (batch / ops.maximum(count, 1.0))  # without any, the total is 0


def fraction(which: Tensor, training: bool) -> Tensor:
    """The mean of zeros and ones, in training over all replicas."""
    if not training or _backend.replicas() == 1:
        return ops.mean(which)
    number = ops.cast(ops.size(which), "float32")
    return ops.divide(*_replicas.totals([ops.sum(which), number]))


def combine_masks(mask: Mask, labelled: Mask, rank: int) -> Mask:
    """Where an element of `rank` axes is unmasked and labelled; `None` for all."""
    valid = None
    if mask is not None:
        valid = match_rank(ops.cast(mask, "bool"), rank, ops.any)
    if labelled is not None:
        labelled = match_rank(labelled, rank, ops.all)
        valid = labelled if valid is None else ops.logical_and(valid, labelled)
    return valid


def match_rank(tensor: Tensor, rank: int, reduce: Callable[..., Any]) -> Tensor:
    """Adds trailing axes of size 1, or reduces trailing axes, to reach `rank`."""
    extra = len(tensor.shape) - rank
    if extra > 0:
        return reduce(tensor, axis=tuple(range(rank, rank + extra)))
    for _ in range(-extra):
        tensor = ops.expand_dims(tensor, -1)
    return tensor


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, 0 where the denominator is 0."""
    safe = ops.where(denominator > 0, denominator, 1.0)
    return ops.where(denominator > 0, numerator / safe, ops.zeros_like(numerator))


def sequence_mask(mask: Mask, prediction: Tensor) -> Mask:
    """A mask `(batch, time)` from a mask or from the sequences' lengths.

    Args:
        mask: `(batch, time)`, 1 or True at a real step; or `(batch,)` or
            `(batch, 1)` with the number of real steps of each sequence, which come
            first.
        prediction: `(batch, time, ...)`.
    """
    if len(mask.shape) == 2 and mask.shape[-1] == 1 and prediction.shape[1] != 1:
        mask = ops.squeeze(mask, -1)
    if len(mask.shape) == 1:
        order = ops.arange(ops.shape(prediction)[1], dtype="int32")
        lengths = ops.expand_dims(ops.cast(mask, "int32"), -1)
        return ops.expand_dims(order, 0) < lengths
    return ops.cast(mask, "bool")


def fit_target_rank(target: Tensor, rank: int, column: bool) -> Tensor:
    """A target of one rank more or less, if its last axis has the size 1.

    Args:
        target: A tensor.
        rank: The rank that it should have.
        column: Whether the last axis may be missing.
    """
    if len(target.shape) == rank + 1 and target.shape[-1] == 1:
        return ops.squeeze(target, -1)
    if len(target.shape) == rank - 1 and (rank == 1 or column):
        return ops.expand_dims(target, -1)
    return target


def weighs_elements(weight: Tensor, rank: int) -> bool:
    """Whether a weight differs along the last axis of a prediction of this rank."""
    return weight is not None and len(weight.shape) == rank and weight.shape[-1] != 1


def fits(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether two shapes may be the same; `None` is any size."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _same_rank(tensors: Iterable[Any]) -> list[Tensor]:
    """The tensors that aren't `None`, with axes of size 1 added at the end."""
    tensors = [tensor for tensor in tensors if tensor is not None]
    rank = max((len(tensor.shape) for tensor in tensors), default=0)
    return [match_rank(tensor, rank, ops.any) for tensor in tensors]


def intersect_masks(*masks: Mask) -> Mask:
    """Where all of the masks are True; `None` if there is none."""
    aligned = _same_rank(m if m is None else ops.cast(m, "bool") for m in masks)
    return functools.reduce(ops.logical_and, aligned) if aligned else None


def product(*weights: Tensor) -> Tensor:
    """The weights' product, float32; `None` if there is none."""
    aligned = [ops.cast(weight, "float32") for weight in _same_rank(weights)]
    return functools.reduce(ops.multiply, aligned) if aligned else None


def in_float32(tensor: Tensor) -> Tensor:
    """A tensor of floats in float32; whole numbers, such as ids, as they are."""
    tensor = ops.convert_to_tensor(tensor)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return ops.cast(tensor, "float32")
    return tensor


def replace_invalid(tensor: Tensor, valid: Mask) -> Tensor:
    """Predictions with 0.5 where they don't count.

    A nan there would come back in the gradient, even times 0.
    """
    for _ in range(len(tensor.shape) - len(valid.shape)):
        valid = ops.expand_dims(valid, -1)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return tensor  # whole numbers have no nan, and no gradient
    return ops.where(valid, tensor, 0.5)
