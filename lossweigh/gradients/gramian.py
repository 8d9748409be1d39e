"""The inner products of a few large tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh._backend import float32_product, squared_norm, stack

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


def inner_products(tensors: Sequence[Any]) -> Any:
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


def _product(tensors: Sequence[Any], block: int) -> Any:
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
