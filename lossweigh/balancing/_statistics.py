"""What a step shows of the branches' gradients, place by place."""

from __future__ import annotations

import math
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


# How many elements a block has, or more if there would be too many blocks: what was
# fastest on processors. `_in_blocks` says when there are blocks at all.
_BLOCK = {"jax": 128, "tensorflow": 16384, "torch": 4096}
_LEAST_BLOCK, _MOST_BLOCKS = 32, 4096
_USUAL_BATCH = 256


def _inner_products(vectors: list[Any]) -> Any:
    """`(n, n)` from n tensors of one shape, in float32.

    A product of a few very long rows is what a processor's library is worst at.
    TensorFlow and torch add up one element after the other, which leaves three right
    digits for ten million of them, and TensorFlow takes one core for many rows. So
    the rows are cut into blocks, whose products are added up.
    """
    shape, backend = tuple(vectors[0].shape), keras.backend.backend()
    block = _block(shape, _BLOCK[backend])
    if block and _in_blocks(backend, len(vectors), shape):
        if backend == "torch":  # multiplies without a copy, and pays by the operation
            rows = ops.reshape(ops.stack(vectors), (len(vectors), -1, block))
            rows = ops.transpose(ops.cast(rows, "float32"), (1, 0, 2))
        else:
            vectors = [ops.reshape(vector, (-1, block)) for vector in vectors]
            rows = ops.cast(ops.stack(vectors, axis=1), "float32")
        return ops.sum(ops.matmul(rows, ops.transpose(rows, (0, 2, 1))), axis=0)
    vectors = [ops.cast(ops.reshape(vector, (-1,)), "float32") for vector in vectors]
    if backend == "jax" and len(vectors) <= 8:
        return _pair_by_pair(vectors)
    rows = ops.stack(vectors)
    return ops.matmul(rows, ops.transpose(rows))


def _in_blocks(backend: str, number: int, shape: Sequence[int | None]) -> bool:
    size = math.prod(_USUAL_BATCH if length is None else length for length in shape)
    if backend == "jax":  # it copies what it stacks, and is exact in any form
        return number > 8
    if backend == "tensorflow":
        return number > 12 or size > 2**17
    return size > 2**13


def _block(shape: Sequence[int | None], wanted: int) -> int:
    """A length that divides that of the vectors, as far as it is known; 0 for none.

    It is about `wanted`, or more where there would be too many blocks.
    """
    size = math.prod(length for length in shape if length)
    most = max(wanted, size // _MOST_BLOCKS)
    block = math.gcd(size, 1 << (most.bit_length() - 1))
    if block < _LEAST_BLOCK:
        block = math.prod(length or 1 for length in shape[1:])
    return block if block >= _LEAST_BLOCK else 0


def _pair_by_pair(vectors: list[Any]) -> Any:
    index = range(len(vectors))
    pairs = {(i, k): ops.dot(vectors[i], vectors[k]) for i in index for k in index[i:]}
    rows = [ops.stack([pairs[min(i, k), max(i, k)] for k in index]) for i in index]
    return ops.stack(rows)


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


def squares_of(branches: list[dict[int, Any]]) -> Any:
    """`(K,)`: the Gramian's diagonal, for methods that look at nothing else."""
    totals = []
    for mine in branches:
        squares = (ops.square(ops.cast(g, "float32")) for g in mine.values())
        totals.append(sum(ops.sum(square) for square in squares))
    return ops.stack(totals)


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
