"""What a step shows of the branches' gradients, place by place."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh._backend import float32_product, squared_norm, stack
from lossweigh.gradients.dense import Products


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


# How many elements a block has: what was fastest on processors. `_in_blocks` says when
# there are blocks at all.
_BLOCK = {"jax": 128, "tensorflow": 16384, "torch": 4096}
_LEAST_BLOCK, _USUAL_BLOCK = 32, 2048
_USUAL_BATCH = 256
# Up to how many elements, of all branches together, are copied side by side whole; how
# many are at a time where there are more, for products of larger matrices take several
# times their room; and how many such pieces may be under way together, at most.
_WHOLE = {"jax": 2**20, "tensorflow": 2**22, "torch": 2**22}
_AT_ONCE = 2**20
_TOGETHER = 4
# JAX on a processor: for how many branches a loop over pieces that stay in the caches
# is fastest, and how many elements of each branch these have.
_LOOPED = range(4, 13)
_CACHED = 8192
# Tensors of up to so many elements are joined.
_SMALL = 2**15


def _inner_products(tensors: list[Any]) -> Any:
    """`(n, n)` from n tensors of one shape, in float32.

    Large tensors are taken in pieces, because a product needs its rows in one
    matrix, a copy of them all.
    """
    shape, backend = tuple(tensors[0].shape), keras.backend.backend()
    number = len(tensors)
    if number == 1:
        return ops.reshape(squared_norm(tensors[0]), (1, 1))
    # Accelerators are slow in small loops, and a piece would be spread over devices.
    alone = backend == "jax" and keras.distribution.list_devices() == ["cpu:0"]
    if alone and number in _LOOPED and math.prod(shape) >= 2 * _CACHED:
        return _piece_by_piece([ops.reshape(tensor, (-1,)) for tensor in tensors])
    if backend == "jax" and number <= 8:
        return _pair_by_pair([ops.reshape(tensor, (-1,)) for tensor in tensors])
    # JAX may have the batch spread over devices: a piece has a part of every sample.
    lead = shape[0] if backend == "jax" and shape and shape[0] else 1
    block = _BLOCK[backend]
    while block > _LEAST_BLOCK and number * lead * block > _AT_ONCE:
        block //= 2
    block = _block(shape, block) if _in_blocks(backend, number, shape) else 0
    unit = block or 1
    at_once = max(_AT_ONCE // (number * lead * unit), 1) * unit
    elements = math.inf if None in shape else math.prod(shape)
    if elements <= lead * at_once or number * elements <= _WHOLE[backend]:
        return _product(tensors, block)
    wide = [ops.reshape(tensor, (lead, -1)) for tensor in tensors]
    length, size = wide[0].shape[1], at_once
    if length is None:
        length = ops.shape(wide[0])[1]
        # XLA compiles a loop that no piece goes through, too.
        size = ops.minimum(at_once, length)
    pieces = length // at_once

    def add_piece(index: Any, total: Any) -> Any:
        begin = (0, index * at_once)
        piece = [ops.slice(tensor, begin, (lead, size)) for tensor in wide]
        return total + _product(piece, block)

    total = ops.zeros((number, number), "float32")
    if isinstance(pieces, int) and pieces <= _TOGETHER:
        for index in range(pieces):
            total = add_piece(index, total)
    else:
        total = ops.fori_loop(0, pieces, add_piece, total)
    rest = [tensor[:, pieces * at_once :] for tensor in wide]
    return total if rest[0].shape[1] == 0 else total + _product(rest, block)


def _product(tensors: list[Any], block: int) -> Any:
    """`(n, n)` from n tensors, as a row each or cut into blocks.

    A product of a few very long rows is what a processor's library is worst at.
    TensorFlow and torch add up one element after the other, which leaves three right
    digits for ten million of them, and TensorFlow takes one core for many rows. So
    the rows are cut into blocks, whose products are added up.
    """
    number = len(tensors)
    if not block:
        rows = ops.reshape(stack(tensors), (number, -1))
        rows = ops.cast(rows, "float32")
        return float32_product(rows, ops.transpose(rows))
    if keras.backend.backend() == "torch":  # pays by the operation, not for strides
        rows = ops.reshape(stack(tensors), (number, -1, block))
        rows = ops.transpose(ops.cast(rows, "float32"), (1, 0, 2))
    else:
        tensors = [ops.reshape(tensor, (-1, block)) for tensor in tensors]
        rows = ops.cast(stack(tensors, axis=1), "float32")
    across = ops.transpose(rows, (0, 2, 1))
    return ops.sum(float32_product(rows, across), axis=0)


def _in_blocks(backend: str, number: int, shape: Sequence[int | None]) -> bool:
    size = math.prod(_USUAL_BATCH if length is None else length for length in shape)
    if backend == "jax":  # it copies what it stacks, and is exact in any form
        return number > 8
    if backend == "tensorflow":
        return number > 12 or size > 2**17
    return size > 2**13


def _block(shape: Sequence[int | None], wanted: int) -> int:
    """A length near `wanted` that divides the tensor's, as far as it is known.

    0 if there is none.
    """
    size = math.prod(length for length in shape if length)
    block = math.gcd(size, wanted)
    if block < min(wanted, _USUAL_BLOCK):
        usual = range(_USUAL_BLOCK, _LEAST_BLOCK - 1, -1)
        block = next((length for length in usual if size % length == 0), 0)
    if not block:
        block = math.prod(length or 1 for length in shape[1:])
    return block if block >= _LEAST_BLOCK else 0


def _piece_by_piece(vectors: list[Any]) -> Any:
    number, pieces = len(vectors), vectors[0].shape[0] // _CACHED

    def of(parts: list[Any]) -> Any:
        rows = ops.cast(stack(parts), "float32")
        return float32_product(rows, ops.transpose(rows))

    def add_piece(index: Any, total: Any) -> Any:
        begin = (index * _CACHED,)
        return total + of([ops.slice(vector, begin, (_CACHED,)) for vector in vectors])

    total = ops.zeros((number, number), "float32")
    total = ops.fori_loop(0, pieces, add_piece, total)
    rest = [vector[pieces * _CACHED :] for vector in vectors]
    return total if rest[0].shape[0] == 0 else total + of(rest)


def _pair_by_pair(vectors: list[Any]) -> Any:
    vectors = [ops.cast(vector, "float32") for vector in vectors]
    index = range(len(vectors))
    pairs = {
        (i, k): float32_product(vectors[i], vectors[k])
        for i in index
        for k in index[i:]
    }
    rows = [ops.stack([pairs[min(i, k), max(i, k)] for k in index]) for i in index]
    return ops.stack(rows)


def _joined(branches: list[dict[int, Any]]) -> list[dict[int, Any]]:
    """The same elements at fewer places: small tensors of the same branches as one.

    Half of a network's parameters are vectors, and every place is a handful of
    operations for each pair of branches, to compile or to call.
    """
    small: dict[tuple[int, ...], list[int]] = {}
    for place in _places(branches):
        who = tuple(k for k, mine in enumerate(branches) if place in mine)
        shape = branches[who[0]][place].shape
        if None not in shape and math.prod(shape) <= _SMALL:
            small.setdefault(who, []).append(place)
    joined = [dict(mine) for mine in branches]
    for who, places in small.items():
        if len(places) > 1:
            for k in who:
                parts = [ops.reshape(joined[k].pop(place), (-1,)) for place in places]
                parts = [ops.cast(part, "float32") for part in parts]
                joined[k][places[0]] = ops.concatenate(parts)
    return joined


def _places(branches: list[dict[int, Any]]) -> list[int]:
    return sorted(set().union(*branches))


def gramian_of(
    branches: list[dict[int, Any]], products: Iterable[Products] = ()
) -> Any:
    """`(K, K)`: inner products, summed over the places that two branches share."""
    number = len(branches)
    total = None

    def add(who: Sequence[int], part: Any) -> None:
        nonlocal total
        if len(who) < number:  # not by a product: 0 times nan would be nan for all
            source = np.full(number, len(who))
            source[list(who)] = np.arange(len(who))
            part = ops.pad(part, [[0, 1], [0, 1]])
            part = ops.take(ops.take(part, source, axis=0), source, axis=1)
        total = part if total is None else total + part

    branches = _joined(branches)
    for place in _places(branches):
        who = [k for k, mine in enumerate(branches) if place in mine]
        add(who, _inner_products([branches[k][place] for k in who]))
    for product in products:
        add(product.who, product.inner_products())
    return total


def squares_of(
    branches: list[dict[int, Any]], products: Iterable[Products] = ()
) -> Any:
    """`(K,)`: the Gramian's diagonal, for methods that look at nothing else."""
    squares = [list(map(squared_norm, mine.values())) for mine in _joined(branches)]
    for product in products:
        norms = ops.diagonal(product.inner_products())
        for index, branch in enumerate(product.who):
            squares[branch].append(norms[index])
    # A branch may share nothing.
    return stack([sum(several, ops.zeros((), "float32")) for several in squares])


def finite_ones(
    branches: list[dict[int, Any]], products: Iterable[Products] = ()
) -> Any:
    """`(K,)` bool."""
    finite = [
        [ops.isfinite(ops.sum(ops.cast(g, "float32"))) for g in mine.values()]
        for mine in branches
    ]
    for product in products:
        whose = product.finite()
        for index, branch in enumerate(product.who):
            finite[branch].append(whose[index])
    return stack(
        [
            functools.reduce(ops.logical_and, several, ops.ones((), "bool"))
            for several in finite
        ]
    )


def mean_abs_of(
    branches: list[dict[int, Any]], products: Iterable[Products] = ()
) -> Any:
    """`(K,)`: the mean absolute element of each branch's gradients; 0 of none."""
    zero = ops.zeros((), "float32")
    totals, sizes = [zero] * len(branches), [zero] * len(branches)
    for branch, mine in enumerate(branches):
        for gradient in mine.values():
            part = ops.sum(ops.abs(ops.cast(gradient, "float32")))
            totals[branch] = totals[branch] + part
            size = ops.cast(ops.size(gradient), "float32")
            sizes[branch] = sizes[branch] + size
    for product in products:
        means, size = product.mean_abs(), product.size
        for index, branch in enumerate(product.who):
            totals[branch] = totals[branch] + means[index] * size
            sizes[branch] = sizes[branch] + size
    return stack(totals) / ops.maximum(stack(sizes), 1.0)
