"""JAX."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np

TENSORS_TAKE_ATTRIBUTES = False
STATELESS = True
FUSES_ELEMENTWISE = True
SUMS_IN_COND = True

_PIECE = 2**18  # elements
_NO_CUSTOM_GRADIENT = (
    "`network` must have no layer with a custom gradient, as by "
    "`keras.ops.custom_gradient`: JAX takes derivatives by the inputs forward, and "
    "such a layer says only how to go backward. Write it without, or run on another "
    "backend."
)


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:

    def with_one_argument(*tensors: Any) -> Any:
        outputs, gradient = function(*tensors)
        return tuple(outputs), lambda upstream: tuple(gradient(*upstream))

    wrapped: Callable[..., Any] = jax.custom_gradient(with_one_argument)  # type: ignore[no-untyped-call]
    return wrapped(*tensors)


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    outputs, push, extras = jax.linearize(function, *tensors, has_aux=True)

    # Unlike that of `jax.vjp`, the transpose of some outputs leaves the others out.
    def transposed(walked: Sequence[int]) -> Callable[..., Any]:
        def some(*tangents: Any) -> list[Any]:
            pushed = push(*tangents)
            return [pushed[index] for index in walked]

        return jax.linear_transpose(some, *tensors)

    # A loop: `jax.vmap` took twice as long on processors.
    def pull_back(several: Iterable[Sequence[Any]]) -> list[list[Any]]:
        programs: dict[tuple[int, ...], Callable[..., Any]] = {}
        pulled = []
        for gradients in several:
            walked = tuple(i for i, g in enumerate(gradients) if g is not None)
            if walked not in programs:
                programs[walked] = transposed(walked)
            pulled.append(list(programs[walked]([gradients[i] for i in walked])))
        return pulled

    return outputs, extras, pull_back


def derivatives(
    function: Callable[..., Any],
    tensors: Sequence[Any],
    firsts: Mapping[int, Sequence[int]],
    seconds: Mapping[tuple[int, int], Sequence[int]],
) -> Any:
    # Forward, a pass for each pair of variables: `jit` computes what they share once.
    # Backward, it took twice as long for several outputs, as long for one.
    tensors = tuple(tensors)

    def along(index: int) -> Any:
        return tuple(
            jax.numpy.ones_like(tensor) if i == index else jax.numpy.zeros_like(tensor)
            for i, tensor in enumerate(tensors)
        )

    results: dict[tuple[int, ...], Any] = {}
    extras = None

    def add(values: Sequence[Any], *indices: int) -> None:
        results.update({(o, *indices): value for o, value in enumerate(values)})

    def forward(function: Callable[..., Any], index: int) -> Callable[..., Any]:
        """From the tensors to the values and derivatives of a function, and extras."""

        def with_derivatives(*tensors: Any) -> Any:
            try:
                values, derived, extras = jax.jvp(
                    function, tensors, along(index), has_aux=True
                )
            except (TypeError, NotImplementedError) as error:
                if "custom_vjp" in str(error) or "custom_lin" in str(error):
                    raise ValueError(_NO_CUSTOM_GRADIENT) from error
                raise
            return (values, derived), extras

        return with_derivatives

    pairs = {(i, j) for (_, i), several in seconds.items() for j in several}
    for one, other in sorted(pairs):
        by_both = forward(forward(function, one), other)
        ((values, by_one), (by_other, by_pair)), extras = by_both(*tensors)
        add(values)
        add(by_one, one)
        add(by_other, other)
        add(by_pair, one, other)
    known = {index for pair in pairs for index in pair}
    for index in sorted({i for several in firsts.values() for i in several} - known):
        (values, derived), extras = forward(function, index)(*tensors)
        add(values)
        add(derived, index)
    return results, extras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    program: Callable[..., Any] = jax.jit(function)
    return program


def has_numbers(tensor: Any) -> bool:
    return not isinstance(tensor, jax.core.Tracer)


def keeps_random_state() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    return tensor


def float32_product(a: Any, b: Any) -> Any:
    return jax.numpy.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def gramian(tensors: Sequence[Any]) -> Any:
    number, shape = len(tensors), tensors[0].shape
    # The batch may be spread over devices: a piece has a part of every sample.
    lead = shape[0] if len(shape) > 1 else 1
    rows = [tensor.reshape(lead, -1).astype("float32") for tensor in tensors]
    length = rows[0].shape[1]
    # What stays in a processor's caches; other devices are slow in small loops.
    elements = 2**16 if jax.default_backend() == "cpu" else 2**22
    piece = min(max(elements // (number * lead), 1), length)
    pieces = length // piece if piece else 0

    def product(parts: Sequence[Any]) -> Any:
        stacked = jax.numpy.stack(parts).reshape(number, -1)
        return float32_product(stacked, stacked.T)

    def add_piece(index: Any, total: Any) -> Any:
        slices = [
            jax.lax.dynamic_slice_in_dim(row, index * piece, piece, axis=1)
            for row in rows
        ]
        return total + product(slices)

    total = jax.numpy.zeros((number, number), "float32")
    total = jax.lax.fori_loop(0, pieces, add_piece, total)
    rest = [row[:, pieces * piece :] for row in rows]
    return total + product(rest) if pieces * piece < length else total


def thin_product(a: Any, b: Any) -> Any:
    kept: Callable[[Any], Any] = jax.lax.optimization_barrier
    return kept(jax.numpy.matmul(kept(b.T), a)).T


def raise_unless(condition: Any, message: str) -> None:

    def check(condition: Any) -> None:
        if not condition:
            raise ValueError(message)

    if isinstance(condition, jax.core.Tracer):
        jax.debug.callback(check, condition)
    else:
        check(condition)


def replicas() -> int:
    return 1


def replica_number() -> Any:
    return 0


def sum_over_replicas(tensors: Sequence[Any]) -> list[Any]:
    return list(tensors)


def rows_of_all_replicas(tensors: Sequence[Any]) -> list[Any]:
    return list(tensors)


def alone() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def scope_of(model: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def squared_norm(tensor: Any) -> Any:
    return jax.numpy.sum(jax.numpy.square(tensor.astype(jax.numpy.float32)))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    return jax.numpy.stack(tensors, axis=axis)


def uniform(shape: Sequence[int], generator: keras.random.SeedGenerator) -> Any:
    seed = generator.next()
    # Other devices fuse the generator's work, and split it by the batch.
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


def unstack(vector: Any, size: int) -> Sequence[Any]:
    # XLA compiles a kernel for each number that is cut out, but only one for all sums
    # that differ in a constant. With many branches that is a tenth of its time.
    selected = np.eye(size, dtype=bool)
    return [jax.numpy.sum(jax.numpy.where(row, vector, 0.0)) for row in selected]


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    total = None
    for tensor, weight in zip(tensors, weights, strict=True):
        part = weight * tensor.astype(jax.numpy.float32)
        total = part if total is None else total + part
    return total
