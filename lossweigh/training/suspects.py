"""Numbers of data sets that don't fit, which a step counts on its device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras import ops

from lossweigh import _backend
from lossweigh.branches import Branch, BranchLoss, split_labels
from lossweigh.points import PointWeights
from lossweigh.training.names import index_name, sample_weight_name, target_name
from lossweigh.training.point_index import number_out_of_range


def suspects(
    merged: Mapping[str, Any],
    branches: Iterable[Branch],
    num_classes: Mapping[str, int],
    points: Mapping[str, PointWeights],
) -> Any:
    """How many numbers of a batch don't fit, such as `check_arrays` tells of.

    The end of an epoch tells.

    Args:
        merged: Named tensors.
        branches: The branches' losses.
        num_classes: As for `check_arrays`.
        points: What weighs a branch's points, by branch.

    Returns:
        `(3 K,)` float32: for each branch those in its target, then for each those in
        its sample weights, then for each those in its index.
    """
    targets, weights, indices = [], [], []
    nothing = ops.zeros((), "float32")
    for layer in branches:
        branch = str(layer.branch)
        targets.append(nothing)
        if isinstance(layer, BranchLoss):
            target = ops.convert_to_tensor(merged[target_name(layer.target)])
            targets[-1] = _in_target(layer, target, num_classes.get(branch))
        weight = merged.get(sample_weight_name(branch))
        weights.append(nothing)
        if weight is not None:
            weight = ops.cast(weight, "float32")
            weights[-1] = _number(~(ops.isfinite(weight) & (weight >= 0)))
        indices.append(nothing)
        if branch in points:
            index = merged[index_name(branch)]
            indices[-1] = number_out_of_range(index, points[branch].num_points)
    return _backend.stack([*targets, *weights, *indices])


def expected_of_target(layer: BranchLoss, classes: int | None) -> str:
    """What the numbers of a branch's target must be, for a message."""
    if classes is not None:
        return f"class indices, whole numbers from 0 to {classes - 1}"
    if layer.takes_probabilities:
        return "numbers from 0 to 1"
    return 'numbers, and no nan but for `BranchLoss(..., missing="nan")`'


def _in_target(layer: BranchLoss, target: Any, classes: int | None) -> Any:
    number = ops.cast(target, "float32")
    wrong = ops.isnan(number)
    if classes is not None:
        wrong = wrong | (number < 0) | (number >= classes) | (number % 1 != 0)
    elif layer.takes_probabilities:
        wrong = wrong | (number < 0) | (number > 1)
    for value in (layer.missing, layer.ignored_class):
        labelled, _ = split_labels(target, value)
        wrong = wrong if labelled is None else wrong & labelled
    return _number(wrong)


def _number(wrong: Any) -> Any:
    return ops.sum(ops.cast(wrong, "float32"))
