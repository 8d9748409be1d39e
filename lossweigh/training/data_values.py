"""What only the numbers of the data show: lengths, nan, class indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lossweigh.branches import Branch, BranchLoss, OwnTarget
from lossweigh.training.data import sample_weight_name, target_name


def as_arrays(merged: Mapping[str, Any]) -> dict[str, Any]:
    """Array-likes (lists, pandas objects) as arrays; tensors as they are."""
    return {
        name: value
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value)
        else np.asarray(value)
        for name, value in merged.items()
    }


def check_values(
    merged: Mapping[str, Any],
    layer: Branch,
    num_classes: int | None,
) -> None:
    """Errors that only the numbers show: lengths, nan, class indices.

    Args:
        merged: Named arrays, as `TrainingInputs.merge` gives them.
        layer: The branch to check.
        num_classes: For class indices, how many classes there are.
    """
    branch = str(layer.branch)
    length = next(iter(merged.values())).shape[0]
    names = [sample_weight_name(branch)]
    if isinstance(layer, BranchLoss):
        names.append(target_name(layer.target))
    for name in names:
        if name in merged and merged[name].shape[0] != length:
            raise ValueError(
                f"The arrays must have the same length, {length}. Received "
                f"{merged[name].shape[0]} for `{name}`."
            )
    if not isinstance(layer, BranchLoss):
        return
    target = merged[target_name(layer.target)]
    if not isinstance(target, np.ndarray):
        return  # a tensor stays on its device
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
    if layer.missing not in (None, "nan"):
        is_known &= target != layer.missing
    if layer.ignored_class is not None:
        is_known &= target != layer.ignored_class
    if isinstance(layer.loss, OwnTarget):
        whole = is_known.reshape(len(target), -1).all(axis=1)
        if whole.any():
            layer.loss.check_target(branch, target[whole])
    if num_classes is None:
        return
    known = target[is_known]
    if known.size and (
        known.min() < 0
        or known.max() >= num_classes
        or (known != np.round(known)).any()
    ):
        raise ValueError(
            f"The target of the branch {branch!r} must hold class indices, whole "
            f"numbers from 0 to {num_classes - 1}. Received numbers from "
            f"{known.min()} to {known.max()}."
        )
