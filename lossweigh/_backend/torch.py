"""torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import torch

TENSORS_TAKE_ATTRIBUTES = True
STATELESS = False
FUSES_ELEMENTWISE = False
SUMS_IN_COND = True

_PIECE = 2**18  # elements
_BLOCK = 2**12


class _WithGradient(torch.autograd.Function):
    """A function from tensors to a tuple of tensors, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *tensors: Any) -> Any:
        outputs, ctx.gradient = function(*tensors)
        ctx.mark_non_differentiable(
            *(output for output in outputs if not output.is_floating_point())
        )
        # An output may be an input, and two outputs may be the same tensor.
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.gradient(*gradients)


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    return _WithGradient.apply(function, *tensors)  # type: ignore[no-untyped-call]


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    with torch.enable_grad():
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        outputs, extras = function(*tensors)

    def pull_one(gradients: Sequence[Any]) -> list[Any]:
        walked = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        if not walked:
            return [torch.zeros_like(tensor) for tensor in tensors]
        ends, upstream = zip(*walked, strict=True)
        pulled = torch.autograd.grad(
            ends, tensors, upstream, retain_graph=True, allow_unused=True
        )
        return [
            torch.zeros_like(tensor) if gradient is None else gradient
            for tensor, gradient in zip(tensors, pulled, strict=True)
        ]

    return outputs, extras, lambda several: [pull_one(one) for one in several]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def has_numbers(tensor: Any) -> bool:
    return not torch.compiler.is_compiling() and not tensor.is_meta


def keeps_random_state() -> contextlib.AbstractContextManager[Any]:
    forked: contextlib.AbstractContextManager[Any] = torch.random.fork_rng()
    return forked


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


@not_compiled
def derivatives(
    function: Callable[..., Any],
    tensors: Sequence[Any],
    firsts: Mapping[int, Sequence[int]],
    seconds: Mapping[tuple[int, int], Sequence[int]],
) -> Any:
    # Backward, a pass for each output and each first derivative that is taken further.
    # Forward, by `torch.func.jvp`, a step took three times as long. Compiled code can't
    # be differentiated twice.
    again = torch.is_grad_enabled()

    def derive(of: Any, indices: Sequence[int], more: bool) -> Sequence[Any]:
        by = [tensors[index] for index in indices]
        if not of.requires_grad:
            return [torch.zeros_like(tensor) for tensor in by]
        gradients: Sequence[Any] = torch.autograd.grad(
            of,
            by,
            torch.ones_like(of),
            retain_graph=True,
            create_graph=again or more,
            materialize_grads=True,
        )
        return gradients

    results: dict[tuple[int, ...], Any] = {}
    with torch.enable_grad():
        # Tensors of their own: one may depend on another, outside of the function.
        tensors = [
            tensor.view_as(tensor)
            if again and tensor.requires_grad
            else tensor.detach().requires_grad_()
            for tensor in tensors
        ]
        outputs, extras = function(*tensors)
        results.update({(o,): output for o, output in enumerate(outputs)})
        for output, several in firsts.items():
            gradients = derive(outputs[output], several, bool(seconds))
            for index, gradient in zip(several, gradients, strict=True):
                results[output, index] = gradient
        for first, several in seconds.items():
            gradients = derive(results[first], several, False)
            for index, gradient in zip(several, gradients, strict=True):
                results[*first, index] = gradient
    if not again:
        results = {key: result.detach() for key, result in results.items()}
    return results, extras


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    return tensor


def float32_product(a: Any, b: Any) -> Any:
    if torch.get_float32_matmul_precision() != "highest":
        return (a.double() @ b.double()).float()
    return a @ b


def gramian(tensors: Sequence[Any]) -> Any:
    rows = [tensor.reshape(-1) for tensor in tensors]
    number = len(rows)
    total: Any = 0.0
    for piece in zip(*(row.split(_PIECE) for row in rows), strict=True):
        stacked = torch.stack(piece).float()
        # A product of very long rows has few right digits.
        in_blocks = stacked.shape[1] // _BLOCK * _BLOCK
        blocks = stacked[:, :in_blocks].reshape(number, -1, _BLOCK).transpose(0, 1)
        rest = stacked[:, in_blocks:]
        total = total + float32_product(blocks, blocks.transpose(1, 2)).sum(dim=0)
        total = total + float32_product(rest, rest.T)
    return total


def thin_product(a: Any, b: Any) -> Any:
    return (b.T @ a).T


def raise_unless(condition: Any, message: str) -> None:
    if not torch.compiler.is_compiling() and not bool(condition):
        raise ValueError(message)


_alone = 0  # how many of them are under way, one inside of the other


def replicas() -> int:
    distributed = torch.distributed
    if _alone or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return int(distributed.get_world_size())


def replica_number() -> Any:
    return torch.distributed.get_rank()


@not_compiled
def sum_over_replicas(tensors: Sequence[Any]) -> list[Any]:
    if any(tensor.is_meta for tensor in tensors):  # Keras asks for shapes
        return list(tensors)
    summed = [tensor.detach().contiguous().clone() for tensor in tensors]
    work = [torch.distributed.all_reduce(one, async_op=True) for one in summed]
    for one in work:
        one.wait()
    return summed


@not_compiled
def rows_of_all_replicas(tensors: Sequence[Any]) -> list[Any]:
    if any(tensor.is_meta for tensor in tensors):  # Keras asks for shapes
        return list(tensors)
    sizes = [0] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(sizes, len(tensors[0]))
    whole = []
    for tensor in tensors:
        # All must be of one shape there: the shorter ones are filled up.
        filled = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        filled[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(filled) for _ in sizes]
        torch.distributed.all_gather(parts, filled)
        whole.append(torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)]))
    return whole


@contextlib.contextmanager
def alone() -> Iterator[None]:
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def scope_of(model: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def squared_norm(tensor: Any) -> Any:
    vector = tensor.float().reshape(-1)
    if vector.numel() <= _PIECE:
        return torch.dot(vector, vector)
    # Of a long vector `torch.dot` has three right digits.
    return sum(torch.dot(piece, piece) for piece in vector.split(_PIECE))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    return torch.stack(list(tensors), dim=axis)


def uniform(shape: Sequence[Any], generator: keras.random.SeedGenerator) -> Any:
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def unstack(vector: Any, size: int) -> Sequence[Any]:
    numbers: Sequence[Any] = torch.unbind(vector)
    return numbers


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    total = weights[0] * tensors[0].float()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.addcmul_(weight, tensor.float())  # allocates nothing
    return total
