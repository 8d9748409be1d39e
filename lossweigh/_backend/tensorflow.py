"""TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


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


def float32_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    if not tf.config.list_physical_devices("GPU"):
        return tf.matmul(a, b)
    # TF32 can be switched off for a whole program only.
    product = tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64))
    return tf.cast(product, tf.float32)


def solve_positive(matrix: Any, targets: Any) -> Any:
    """See `lossweigh._backend`."""
    return tf.linalg.solve(matrix, targets)


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """See `lossweigh._backend`."""
    return tf.stack(tensors, axis=axis)


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    total = None
    for tensor, weight in zip(tensors, weights, strict=True):
        part = weight * tf.cast(tensor, tf.float32)
        total = part if total is None else total + part
    return total
