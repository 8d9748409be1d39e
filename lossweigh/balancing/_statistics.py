"""What a step shows of the branches' gradients, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
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


_FEW = 8  # vectors


def _inner_products(vectors: list[Any]) -> Any:
    """`(n, n)` from n tensors of one shape, in float32."""
    flat = [ops.reshape(ops.cast(vector, "float32"), (-1,)) for vector in vectors]
    if keras.backend.backend() == "jax" and len(flat) <= _FEW:
        # XLA copies what it stacks: pair by pair takes two thirds of the step that
        # one product takes, at the parameters with 8 branches.
        pairs = {
            (i, k): ops.dot(one, flat[k])
            for i, one in enumerate(flat)
            for k in range(i, len(flat))
        }
        index = range(len(flat))
        return ops.stack(
            [ops.stack([pairs[min(i, k), max(i, k)] for k in index]) for i in index]
        )
    rows = ops.stack(flat)
    return ops.matmul(rows, ops.transpose(rows))


def _places(branches: list[dict[int, Any]]) -> list[int]:
    return sorted(set().union(*branches))


def gramian_of(branches: list[dict[int, Any]]) -> Any:
    """`(K, K)`: inner products, summed over the places that two branches share."""
    number = len(branches)
    total = None
    for place in _places(branches):
        who = [k for k, mine in enumerate(branches) if place in mine]
        part = _inner_products([branches[k][place] for k in who])
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
