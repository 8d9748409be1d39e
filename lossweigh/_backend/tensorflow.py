"""TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

TENSORS_TAKE_ATTRIBUTES = True
STATELESS = False
FUSES_ELEMENTWISE = False
SUMS_IN_COND = False  # `merge_call` refuses to be called in another graph

_BLOCK = 2**11  # elements of each tensor that a product sums up
_AT_ONCE = 2**20  # elements of all tensors that are copied side by side


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    # TensorFlow asks for the gradients of variables that a function is given.
    return tf.custom_gradient(function)(*(tf.convert_to_tensor(t) for t in tensors))


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tensors = [tf.identity(tensor) for tensor in tensors]
        tape.watch(tensors)
        outputs, extras = function(*tensors)

    def pull_one(gradients: Sequence[Any]) -> list[Any]:
        walked = [index for index, g in enumerate(gradients) if g is not None]
        pulled = tape.gradient(
            [outputs[index] for index in walked],
            tensors,
            [gradients[index] for index in walked],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [tf.convert_to_tensor(gradient) for gradient in pulled]

    return outputs, extras, lambda several: [pull_one(one) for one in several]


def derivatives(
    function: Callable[..., Any],
    tensors: Sequence[Any],
    firsts: Mapping[int, Sequence[int]],
    seconds: Mapping[tuple[int, int], Sequence[int]],
) -> Any:
    # Backward, a pass for each output and each first derivative that is taken further.
    # Forward, by a `ForwardAccumulator`, a step took 1.3 to 1.6 times as long.
    tensors = [tf.identity(tensor) for tensor in tensors]

    def derive(tape: Any, of: Any, indices: Sequence[int]) -> list[Any]:
        return tape.gradient(
            of,
            [tensors[index] for index in indices],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    def tape_for(number: int) -> Any:
        return tf.GradientTape(persistent=number > 1, watch_accessed_variables=False)

    results: dict[tuple[int, ...], Any] = {}
    with tape_for(len(seconds)) as outer:
        outer.watch(tensors if seconds else [])
        with tape_for(len(firsts)) as inner:
            inner.watch(tensors)
            outputs, extras = function(*tensors)
        results.update({(o,): output for o, output in enumerate(outputs)})
        for output, several in firsts.items():
            gradients = derive(inner, outputs[output], several)
            for index, gradient in zip(several, gradients, strict=True):
                results[output, index] = gradient
    for first, several in seconds.items():
        gradients = derive(outer, results[first], several)
        for index, gradient in zip(several, gradients, strict=True):
            results[*first, index] = gradient
    return results, extras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    program: Callable[..., Any] = tf.function(function, reduce_retracing=True)
    return program


def has_numbers(tensor: Any) -> bool:
    return bool(tf.executing_eagerly())


def keeps_random_state() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    if isinstance(tensor, tf.Tensor) and not tensor.shape.is_fully_defined():
        return tf.ensure_shape(tensor, shape)
    return tensor


def float32_product(a: Any, b: Any) -> Any:
    if not tf.config.list_physical_devices("GPU"):
        return tf.matmul(a, b)
    # TF32 can only be switched off for a whole program.
    product = tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64))
    return tf.cast(product, tf.float32)


def gramian(tensors: Sequence[Any]) -> Any:
    rows = [tf.reshape(tf.cast(tensor, tf.float32), (-1,)) for tensor in tensors]
    number, size = len(rows), tf.size(rows[0])
    in_blocks = size // _BLOCK * _BLOCK
    piece = tf.minimum(max(_AT_ONCE // (number * _BLOCK), 1) * _BLOCK, in_blocks)
    pieces = in_blocks // tf.maximum(piece, 1)

    def product(begin: Any, length: Any) -> Any:
        """Of so many elements, a multiple of a block's: one matrix a block.

        A product adds up one element after the other, which leaves three right digits
        for ten million of them.
        """
        several = [tf.slice(row, [begin], [length]) for row in rows]
        several = [tf.reshape(part, (length // _BLOCK, _BLOCK)) for part in several]
        blocks = tf.stack(several, axis=1)
        across = tf.transpose(blocks, (0, 2, 1))
        return tf.reduce_sum(float32_product(blocks, across), axis=0)

    _, total = tf.while_loop(
        lambda index, total: index < pieces,
        lambda index, total: (index + 1, total + product(index * piece, piece)),
        (0, tf.zeros((number, number))),
    )
    begin = pieces * piece
    total = total + product(begin, in_blocks - begin)
    rest = tf.stack([row[in_blocks:] for row in rows])
    return total + float32_product(rest, tf.transpose(rest))


def thin_product(a: Any, b: Any) -> Any:
    return tf.matmul(a, b, transpose_a=True)


def raise_unless(condition: Any, message: str) -> None:
    if tf.executing_eagerly():
        if not bool(condition):
            raise ValueError(message)
    else:
        tf.debugging.Assert(condition, [message])


def replicas() -> int:
    if tf.distribute.in_cross_replica_context():  # a model is built, or called whole
        return 1
    return int(tf.distribute.get_replica_context().num_replicas_in_sync)


def replica_number() -> Any:
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def sum_over_replicas(tensors: Sequence[Any]) -> list[Any]:
    context = tf.distribute.get_replica_context()
    summed: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
    return summed


def rows_of_all_replicas(tensors: Sequence[Any]) -> list[Any]:
    context = tf.distribute.get_replica_context()
    return [context.all_gather(tensor, axis=0) for tensor in tensors]


def alone() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def scope_of(model: Any) -> contextlib.AbstractContextManager[Any]:
    strategy = model.distribute_strategy
    scope: contextlib.AbstractContextManager[Any] = strategy.scope()
    return scope


def squared_norm(tensor: Any) -> Any:
    return 2.0 * tf.nn.l2_loss(tf.cast(tensor, tf.float32))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    return tf.stack(tensors, axis=axis)


def uniform(shape: Sequence[Any], generator: keras.random.SeedGenerator) -> Any:
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def unstack(vector: Any, size: int) -> Sequence[Any]:
    numbers: Sequence[Any] = tf.unstack(vector, size)
    return numbers


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    total = None
    for tensor, weight in zip(tensors, weights, strict=True):
        part = weight * tf.cast(tensor, tf.float32)
        total = part if total is None else total + part
    return total
