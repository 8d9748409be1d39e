"""torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

_PIECE = 2**18  # elements

# Layers may only assign what Keras carries through a step; XLA fuses what it can.
stateless = False
fuses_elementwise = False


class _WithGradient(torch.autograd.Function):
    """A function of tensors to a tuple of tensors that brings its own gradient."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *tensors: Any) -> Any:
        outputs, ctx.gradient = function(*tensors)
        ctx.mark_non_differentiable(
            *(output for output in outputs if not output.is_floating_point())
        )
        # An output may be an input, and several of them the same one.
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.gradient(*gradients)


def custom_gradient(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    return _WithGradient.apply(function, *tensors)  # type: ignore[no-untyped-call]


def vector_jacobian(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    with torch.enable_grad():
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        outputs, extras = function(*tensors)
    attached = [index for index, output in enumerate(outputs) if output.requires_grad]

    def pull_one(gradients: Sequence[Any]) -> list[Any]:
        pulled = torch.autograd.grad(
            [outputs[index] for index in attached],
            tensors,
            [gradients[index] for index in attached],
            retain_graph=True,
            allow_unused=True,
        )
        return [
            torch.zeros_like(tensor) if gradient is None else gradient
            for tensor, gradient in zip(tensors, pulled, strict=True)
        ]

    return outputs, extras, lambda several: [pull_one(one) for one in several]


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `lossweigh._backend`."""
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def ensure_shape(tensor: Any, shape: Sequence[int | None]) -> Any:
    """See `lossweigh._backend`."""
    return tensor


def elementwise(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    first, given_up = tensors[0], tensors[-1]
    if first.numel() <= _PIECE or torch.compiler.is_compiling():  # that one fuses
        return function(*tensors)
    if given_up.numel() != first.numel():
        raise RuntimeError(
            "`backward()` was called twice on one call of the training model, which "
            "a balancer like GradDrop doesn't keep its random numbers for, "
            "`retain_graph=True` or not. Call the training model again before it."
        )
    in_place = given_up.dtype == first.dtype and given_up.is_contiguous()
    found = given_up.detach() if in_place else first.new_empty(first.shape)
    flat = [tensor.reshape(-1).split(_PIECE) for tensor in (found, *tensors)]
    for place, *piece in zip(*flat, strict=True):
        place.copy_(function(*piece))
    if in_place:
        given_up.set_()  # empties it: whoever holds on to it holds nothing
    return found


def float32_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    if torch.get_float32_matmul_precision() != "highest":
        return (a.double() @ b.double()).float()
    return a @ b


def thin_product(a: Any, b: Any) -> Any:
    """See `lossweigh._backend`."""
    return (b.T @ a).T


def raise_unless(condition: Any, message: str) -> None:
    """See `lossweigh._backend`."""
    if not torch.compiler.is_compiling() and not bool(condition):
        raise ValueError(message)


def replicas() -> int:
    """See `lossweigh._backend`."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return int(distributed.get_world_size())


def squared_norm(tensor: Any) -> Any:
    """See `lossweigh._backend`."""
    vector = tensor.float().reshape(-1)
    if vector.numel() <= _PIECE:
        return torch.dot(vector, vector)
    # Of a long one, `torch.dot` has three right digits.
    return sum(torch.dot(piece, piece) for piece in vector.split(_PIECE))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """See `lossweigh._backend`."""
    return torch.stack(list(tensors), dim=axis)


def uniform(shape: Sequence[Any], generator: keras.random.SeedGenerator) -> Any:
    """See `lossweigh._backend`."""
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def weighted_sum(tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
    """See `lossweigh._backend`."""
    total = weights[0] * tensors[0].float()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.addcmul_(weight, tensor.float())  # two new tensors fewer each time
    return total
