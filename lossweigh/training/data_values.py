"""What only the numbers of the data show: lengths, nan, class indices."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

from lossweigh.branches import Branch, BranchLoss, TargetSpec
from lossweigh.training.array_likes import as_array, known_shape, library
from lossweigh.training.names import sample_weight_name, target_name

Spec = tuple[tuple[int | None, ...], str]  # of an input: its shape and its dtype

_MISSING = " If a number marks missing labels, give `BranchLoss(..., missing=number)`."


def as_arrays(merged: Mapping[str, Any]) -> dict[str, Any]:
    """Array-likes (lists, pandas objects) as arrays; no `None`.

    Tensors stay as they are, and so does what Keras reads batch by batch (a data set of
    an HDF5 file) or makes dense itself (a sparse matrix).
    """
    return {
        name: value
        if isinstance(value, np.ndarray)
        or ops.is_tensor(value)
        or library(value) in ("h5py", "scipy")
        else as_array(name, value)
        for name, value in merged.items()
        if value is not None
    }


def check_arrays(
    merged: Mapping[str, Any],
    branches: Iterable[Branch],
    num_classes: Mapping[str, int],
    specs: Mapping[str, Spec],
    *,
    tensors: bool = True,
) -> None:
    """Errors that only the numbers show: lengths, words, nan, class indices, weights.

    Args:
        merged: Named arrays, as `as_arrays` gives them.
        branches: The branches' losses.
        num_classes: For branches whose targets are class indices, how many classes
            there are.
        specs: The shapes and dtypes of the training model's inputs by name.
        tensors: Whether to look at tensors too, which are copied from their device.

    Raises:
        ValueError: If lengths differ, there is no row, or a number isn't allowed.
        TypeError: If what should be numbers isn't.
    """
    _check_lengths(merged)
    for name, values in merged.items():
        _check_dtype(name, values, specs)
    for layer in branches:
        branch = str(layer.branch)
        weight = _numbers(merged.get(sample_weight_name(branch)), tensors)
        if weight is not None:
            _check_weight(branch, weight)
        if isinstance(layer, BranchLoss):
            target = _numbers(merged[target_name(layer.target)], tensors)
            if target is not None:
                _check_target(layer, target, num_classes.get(branch))


def _numbers(values: Any, tensors: bool) -> np.ndarray | None:
    if values is None or not (tensors or isinstance(values, np.ndarray)):
        return None
    return np.asarray(ops.convert_to_numpy(values))


def _check_lengths(merged: Mapping[str, Any]) -> None:
    lengths = {}
    for name, values in merged.items():
        if not values.shape:
            raise ValueError(
                f"`{name}` must have a row for each sample. Received a single number."
            )
        lengths[name] = values.shape[0]
    if len(set(lengths.values())) > 1:
        length = next(iter(lengths.values()))
        name, other = next(pair for pair in lengths.items() if pair[1] != length)
        raise ValueError(
            f"The arrays must have the same length, {length}. Received {other} for "
            f"`{name}`."
        )
    if 0 in lengths.values():
        raise ValueError(
            "The arrays must have at least one row. Received "
            f"{', '.join(lengths)} without any."
        )


def _check_dtype(name: str, values: Any, specs: Mapping[str, Spec]) -> None:
    """Refuses what isn't real numbers, but for an input of words."""
    if name in specs and specs[name][1] == "string":
        return
    what, kind = f"The input {name!r}", str(values.dtype)
    if any(word in kind for word in ("complex", "datet", "timed")):
        raise TypeError(
            f"{what} must hold real numbers. Received an array of dtype {kind}. Give "
            "what a model can learn from, such as the real and the imaginary part, or "
            "the seconds since a date."
        )
    if any(word in kind for word in ("object", "str", "<U", "|S")):
        raise TypeError(
            f"{what} must hold numbers. Received an array of dtype {kind}. "
            'For `None` in place of numbers write nan, `array.astype("float32")`. '
            "For words that name classes, give each one's number: "
            "`np.unique(words, return_inverse=True)[1]`, or of a pandas column "
            '`column.astype("category").cat.codes`.'
        )


def _check_weight(branch: str, weight: np.ndarray) -> None:
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        raise ValueError(
            f"`sample_weight` of {branch!r} must hold finite numbers of at least 0. "
            f"Received {int(wrong.sum())} others, such as {weight[wrong].flat[0]}."
        )


def _check_target(layer: BranchLoss, target: np.ndarray, classes: int | None) -> None:
    branch = str(layer.branch)
    is_known = np.ones(target.shape, bool)
    if target.dtype.kind == "f":
        is_nan = np.isnan(target)
        if layer.missing != "nan" and is_nan.any():
            raise ValueError(
                f"The target of the branch {branch!r} must not hold nan. Received "
                f"{int(is_nan.sum())} of them in {target.size} numbers. If nan marks "
                f'missing labels, give `BranchLoss(..., missing="nan")`.'
            )
        is_known &= ~is_nan
    for value in (layer.missing, layer.ignored_class):
        if value not in (None, "nan"):
            is_known &= target != value
    if isinstance(layer.loss, TargetSpec):
        whole = is_known.reshape(len(target), -1).all(axis=1)
        if whole.any():
            layer.loss.check_target(branch, target[whole])
    known = target[is_known]
    if (
        classes is not None
        and known.size
        and (
            known.min() < 0
            or known.max() >= classes
            or (known != np.round(known)).any()
        )
    ):
        raise ValueError(
            f"The target of the branch {branch!r} must hold class indices, whole "
            f"numbers from 0 to {classes - 1}. Received numbers from "
            f"{known.min()} to {known.max()}.{_MISSING}"
        )
    if (
        layer.takes_probabilities
        and known.size
        and (known.min() < 0 or known.max() > 1)
    ):
        warnings.warn(
            f"The target of the branch {branch!r} should hold numbers from 0 to 1: its "
            f"loss is a cross-entropy. Received numbers from {known.min()} to "
            f"{known.max()}."
            f"{_MISSING} Divide the pixels of an image by 255.",
            stacklevel=2,
        )


def check_batch(merged: Mapping[str, Any], specs: Mapping[str, Spec]) -> None:
    """What a batch of a data set shows without its numbers: lengths and dtypes.

    Args:
        merged: Named arrays or tensors.
        specs: As for `check_arrays`.
    """
    known = {}
    for name, values in merged.items():
        if not hasattr(values, "dtype"):
            continue
        _check_dtype(name, values, specs)
        shape = known_shape(values)
        if shape and shape[0] is not None:
            known[name] = values
    if known:
        _check_lengths(known)
