"""JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import keras

_PIECE = 2**18  # elements

# Layers may only assign what Keras carries through a step; XLA fuses what it can.
stateless = True
fuses_elementwise = True


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""

    def with_one_argument(*tensors: Any) -> Any:
        outputs, gradient = function(*tensors)
        return tuple(outputs), lambda upstream: tuple(gradient(*upstream))

    wrapped: Callable[..., Any] = jax.custom_gradient(with_one_argument)  # type: ignore[no-untyped-call]
    return wrapped(*tensors)


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    outputs, pull_one, extras = jax.vjp(function, *tensors, has_aux=True)

    # One after the other: `jax.vmap` took twice as long on processors.
    def pull_back(several: Iterable[Sequence[Any]]) -> list[list[Any]]:
        return [list(pull_one(tuple(gradients))) for gradients in several]

    return outputs, extras, pull_back


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `lossweigh._backend`."""
    return function


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    """See `lossweigh._backend`."""
    return tensor


def elementwise(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    return function(*tensors)


def float32_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    return jax.numpy.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def thin_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    kept: Callable[[Any], Any] = jax.lax.optimization_barrier
    return kept(jax.numpy.matmul(kept(b.T), a)).T


def raise_unless(condition: Any, message: str) -> None:
    """See `lossweigh._backend`."""

    def check(condition: Any) -> None:
        if not condition:
            raise ValueError(message)

    if isinstance(condition, jax.core.Tracer):
        jax.debug.callback(check, condition)
    else:
        check(condition)


def replicas() -> int:
    """See `lossweigh._backend`."""
    return 1


def squared_norm(tensor: Any) -> Any:
    """See `lossweigh._backend`."""
    return jax.numpy.sum(jax.numpy.square(tensor.astype(jax.numpy.float32)))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """See `lossweigh._backend`."""
    return jax.numpy.stack(tensors, axis=axis)


def uniform(shape: Sequence[int], generator: keras.random.SeedGenerator) -> Any:
    """See `lossweigh._backend`."""
    seed = generator.next()
    # Elsewhere its work is fused, and split over devices by the batch.
    on_processors = jax.default_backend() == "cpu"
    pieces = math.gcd(shape[0], 8)
    if not on_processors or math.prod(shape) <= _PIECE or pieces == 1:
        return keras.random.uniform(shape, dtype="float32", seed=seed)
    piece = (shape[0] // pieces, *shape[1:])
    drawn = jax.lax.map(
        lambda seed: keras.random.uniform(piece, dtype="float32", seed=seed),
        jax.random.split(seed, pieces),
    )
    return drawn.reshape(shape)


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    total = None
    for tensor, weight in zip(tensors, weights, strict=True):
        part = weight * tensor.astype(jax.numpy.float32)
        total = part if total is None else total + part
    return total
