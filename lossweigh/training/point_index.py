"""Which points the rows of the data are, for branches with weights of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from lossweigh import _backend
from lossweigh.points import PointWeights
from lossweigh.training.array_likes import with_shape
from lossweigh.training.names import index_name


def taken_out(x: Any, names: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """`x` without what says which points the rows are, and this by name.

    Args:
        x: As for `fit`.
        names: The names of these inputs by branch.
    """
    if not names or not isinstance(x, Mapping):
        return x, {}
    given = {
        name: _as_index(branch, x[name])
        for branch, name in names.items()
        if x.get(name) is not None
    }
    return {k: v for k, v in x.items() if k not in names.values()}, given


def _as_index(branch: str, value: Any) -> Any:
    """An index of shape `(n,)`, or a worded error."""
    name = index_name(branch)
    value, shape = with_shape(name, value)
    if "int" not in str(value.dtype):
        raise TypeError(
            f"`{name}` must hold which point each row is, whole numbers of an integer "
            f"dtype. Received an array of dtype {value.dtype}. Give "
            '`index.astype("int32")`.'
        )
    if shape is None:
        return value
    if len(shape) == 2 and shape[1] == 1:
        return value[:, 0]
    if len(shape) != 1:
        raise ValueError(
            f"`{name}` must have the shape (batch,), which point each row is. Received "
            f"an array of shape {shape}."
        )
    return value


def fill(
    merged: dict[str, Any],
    points: Mapping[str, PointWeights],
    validation_split: float,
    *,
    tensors: bool,
) -> None:
    """Says which points the rows of arrays are, 0, 1, 2, ..., where nobody did.

    Args:
        merged: Named arrays of the same length, which gets the rest.
        points: What weighs a branch's points, by branch.
        validation_split: The part of the rows, the last ones, that isn't trained on.
        tensors: Whether to look at an index that is a tensor, which copies it.

    Raises:
        ValueError: If there are more or fewer rows than points, or an index is out of
            range.
    """
    if not points:
        return
    rows = next(iter(merged.values())).shape[0]
    trained = math.floor(rows * (1.0 - validation_split)) if validation_split else rows
    for branch, weights in points.items():
        name = index_name(branch)
        given = merged.get(name)
        if given is not None:
            if tensors or isinstance(given, np.ndarray):
                check_range(branch, given[:trained], weights.num_points)
            continue
        if trained != weights.num_points:
            split = f" of {rows} (validation_split={validation_split})"
            raise ValueError(
                f"The arrays must have a row for each of the {weights.num_points} "
                f"points that the branch {branch!r} has weights for "
                f"(`{type(weights).__name__}({weights.num_points})`). Received "
                f"{trained} rows{split if trained < rows else ''}. If these "
                "are some of the points, say which: give `x` as a dict, with "
                f"{name!r} beside the inputs. Other points need a new training model."
            )
        merged[name] = np.arange(rows, dtype="int32")


def check_range(branch: str, index: Any, num_points: int) -> None:
    """Refuses an index that is out of range."""
    numbers = np.asarray(ops.convert_to_numpy(index))
    if numbers.size and (numbers.min() < 0 or numbers.max() >= num_points):
        raise ValueError(
            f"`{index_name(branch)}` must hold whole numbers from 0 to "
            f"{num_points - 1}: the branch {branch!r} has weights for {num_points} "
            f"points. Received numbers from {numbers.min()} to {numbers.max()}."
        )


def check_batch_of(
    merged: Mapping[str, Any], points: Mapping[str, PointWeights], *, looks: bool
) -> None:
    """Refuses a batch that doesn't say which points its rows are.

    Args:
        merged: The batch by name.
        points: What weighs a branch's points, by branch.
        looks: Whether to look at the numbers, where a batch isn't being traced.
    """
    for branch, weights in points.items():
        name = index_name(branch)
        index = merged.get(name)
        if index is None:
            raise ValueError(
                "Each batch must say which points its rows are: the branch "
                f"{branch!r} has weights for {weights.num_points} points. Let the data "
                f"set yield ({{..., {name!r}: index}}, y), a dict with {name!r} beside "
                "the inputs by name, whole numbers from 0 to "
                f"{weights.num_points - 1}. Received a batch without {name!r}."
            )
        if looks and (isinstance(index, np.ndarray) or _backend.has_numbers(index)):
            check_range(branch, index, weights.num_points)


def number_out_of_range(index: Any, num_points: int) -> Any:
    """How many numbers of a batch's index are out of range."""
    index = ops.convert_to_tensor(index)
    wrong = ops.logical_or(index < 0, index >= num_points)
    return ops.sum(ops.cast(wrong, "float32"))
