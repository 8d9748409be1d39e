"""What a step shows of the branches' gradients, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops


def by_branch(
    pieces: Sequence[Any], owners: Sequence[Sequence[int]], num_branches: int
) -> list[dict[int, Any]]:
    """For each branch its gradients by place."""
    branches: list[dict[int, Any]] = [{} for _ in range(num_branches)]
    ahead = iter(pieces)
    for place, who in enumerate(owners):
        for branch in who:
            branches[branch][place] = next(ahead)
    return branches


def _rows(branches: list[dict[int, Any]], place: int) -> tuple[list[int], Any]:
    """Which branches have a gradient at a place, and these as rows of float32."""
    who = [k for k, mine in enumerate(branches) if place in mine]
    rows = [ops.reshape(ops.cast(branches[k][place], "float32"), (-1,)) for k in who]
    return who, ops.stack(rows)


def _places(branches: list[dict[int, Any]]) -> list[int]:
    return sorted(set().union(*branches))


def gramian_of(branches: list[dict[int, Any]]) -> Any:
    """`(K, K)`: inner products, summed over the places that two branches share."""
    number = len(branches)
    total = None
    for place in _places(branches):
        who, rows = _rows(branches, place)
        part = ops.matmul(rows, ops.transpose(rows))
        if len(who) < number:
            select = np.eye(number, dtype="float32")[who]
            part = ops.matmul(select.T, ops.matmul(part, select))
        total = part if total is None else total + part
    return total


def finite_ones(branches: list[dict[int, Any]]) -> Any:
    """`(K,)` bool."""
    return ops.stack(
        [
            ops.isfinite(sum(ops.sum(ops.cast(g, "float32")) for g in mine.values()))
            for mine in branches
        ]
    )


def mean_abs_of(branches: list[dict[int, Any]]) -> Any:
    """`(K,)`: the mean absolute element of each branch's gradients."""
    means = []
    for mine in branches:
        total = sum(ops.sum(ops.abs(ops.cast(g, "float32"))) for g in mine.values())
        size = sum(ops.cast(ops.size(g), "float32") for g in mine.values())
        means.append(total / size)
    return ops.stack(means)
