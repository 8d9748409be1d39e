"""TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

_PIECE = 2**18  # elements
_USUAL_BATCH = 256

# Layers may only assign what Keras carries through a step; XLA fuses what it can.
stateless = False
fuses_elementwise = False


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    # A variable among the arguments would be one that the function "uses".
    return tf.custom_gradient(function)(*(tf.convert_to_tensor(t) for t in tensors))


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tensors = [tf.identity(tensor) for tensor in tensors]
        tape.watch(tensors)
        outputs, extras = function(*tensors)

    def pull_one(gradients: Sequence[Any]) -> list[Any]:
        pulled = tape.gradient(
            list(outputs),
            tensors,
            list(gradients),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [tf.convert_to_tensor(gradient) for gradient in pulled]

    return outputs, extras, lambda several: [pull_one(one) for one in several]


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `lossweigh._backend`."""
    return function


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    """See `lossweigh._backend`."""
    if isinstance(tensor, tf.Tensor) and not tensor.shape.is_fully_defined():
        return tf.ensure_shape(tensor, shape)
    return tensor


def elementwise(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    shape = [_USUAL_BATCH if n is None else n for n in tensors[0].shape]
    if math.prod(shape) <= _PIECE:
        return function(*tensors)
    flat = [tf.reshape(tensor, (-1,)) for tensor in tensors]
    length = tf.size(flat[0])
    pieces = length // _PIECE
    # XLA compiles the loop for less than a piece, and makes no empty array.
    size = tf.minimum(_PIECE, length)
    number = tf.maximum(pieces, 1)
    made = tf.TensorArray(tensors[0].dtype, number, element_shape=(_PIECE,))

    def add_piece(index: Any, made: Any) -> Any:
        piece = [tf.slice(tensor, (index * _PIECE,), (size,)) for tensor in flat]
        found = tf.pad(function(*piece), [[0, _PIECE - size]])
        return index + 1, made.write(index, tf.ensure_shape(found, (_PIECE,)))

    _, made = tf.while_loop(
        lambda index, made: index < pieces, add_piece, (0, made), parallel_iterations=1
    )
    rest = function(*(tensor[pieces * _PIECE :] for tensor in flat))
    found = tf.concat([tf.reshape(made.stack()[:pieces], (-1,)), rest], 0)
    return tf.reshape(found, tf.shape(tensors[0]))


def float32_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    if not tf.config.list_physical_devices("GPU"):
        return tf.matmul(a, b)
    # TF32 can be switched off for a whole program only.
    product = tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64))
    return tf.cast(product, tf.float32)


def thin_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    return tf.matmul(a, b, transpose_a=True)


def raise_unless(condition: Any, message: str) -> None:
    """See `lossweigh._backend`."""
    if tf.executing_eagerly():
        if not bool(condition):
            raise ValueError(message)
    else:
        tf.debugging.Assert(condition, [message])


def replicas() -> int:
    """See `lossweigh._backend`."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def squared_norm(tensor: Any) -> Any:
    """See `lossweigh._backend`."""
    return 2.0 * tf.nn.l2_loss(tf.cast(tensor, tf.float32))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """See `lossweigh._backend`."""
    return tf.stack(tensors, axis=axis)


def uniform(shape: Sequence[Any], generator: keras.random.SeedGenerator) -> Any:
    """See `lossweigh._backend`."""
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    total = None
    for tensor, weight in zip(tensors, weights, strict=True):
        part = weight * tf.cast(tensor, tf.float32)
        total = part if total is None else total + part
    return total
