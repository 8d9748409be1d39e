"""Balancing at the shared parameters, or with the lengths that gradients have there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from lossweigh import _backend, _compat
from lossweigh.balancing.base import Balancer
from lossweigh.gradients.exact import Trunk, balance_step
from lossweigh.gradients.exits import Exits, split_by_lengths
from lossweigh.gradients.loss_tap import open_tap, read_tap
from lossweigh.gradients.state import BalancerState
from lossweigh.gradients.step import BranchGradients


class TrunkCall(NamedTuple):
    """What a call of the shared layers gives.

    Attributes:
        tensors: What the heads take, shared tensor by shared tensor.
        tap: `(K + 1,)`, for `LossTap`.
        plain: The other tensors, which no branch's gradient comes back from.
        masks: The masks of the trunk's tensors, `None` where there is none.
        losses: The losses that its layers added and Keras doesn't know of.
    """

    tensors: list[Any]
    tap: Any
    plain: list[Any]
    masks: list[Any]
    losses: list[Any]


@_backend.not_compiled
def balance_parameters(
    balancer: Balancer,
    state: BalancerState,
    trunk: keras.Model,
    inputs: Any,
    exits: Exits,
    draws: Any = None,
    exact: bool | None = None,
) -> TrunkCall:
    """Calls the shared layers; the gradients of their parameters are balanced.

    Args:
        balancer: What combines the branches' gradients, at an `ExactLevel`.
        state: As for `balance_tensors`.
        trunk: A functional model to a list of tensors: the shared ones, then
            others that no gradient comes back from.
        inputs: What it takes.
        exits: How the branches leave the shared tensors.
        draws: `(K, K)` random numbers, or `None`.
        exact: Whether this step makes an exact pass; `None` to see by the state's age.

    Raises:
        ValueError: If a layer assigns trainable weights.
    """
    parameters = [ops.convert_to_tensor(v) for v in trunk.trainable_variables]
    # Read once: TensorFlow would read them anew, some after their assignment.
    others = [ops.copy(v) for v in trunk.non_trainable_variables]
    kernels, variables = exits.parameters(), state.flat()
    lengths = [len(parameters), len(kernels), len(variables)]
    num_shared, num_tensors = len(exits.exits), len(trunk.outputs)
    moved: list[Any] = []  # the variables that the layers assigned
    masked: list[int] = []  # the tensors that have a mask

    def call(*parameters: Any) -> Any:
        values = [
            *zip(trunk.trainable_variables, parameters, strict=True),
            *zip(trunk.non_trainable_variables, others, strict=True),
        ]
        with _compat.Assignments(values) as scope:
            outputs = trunk.call(inputs, training=True)
            losses = scope.take_losses(trunk)
        outputs = tuple(outputs) if isinstance(outputs, (list, tuple)) else (outputs,)
        moved[:] = scope.assigned.values()
        _check_assigned(balancer, moved)
        after = [scope.get_current_value(variable) for variable in moved]
        return (*outputs, *losses), (after, _compat.keras_masks(outputs))

    def function(*given: Any) -> Any:
        parameters, kernels, variables = split_by_lengths(given, lengths)
        before = state.filled(variables)
        outputs, (after, masks), pull_back = _backend.vector_jacobian(call, parameters)
        masked[:] = [i for i, mask in enumerate(masks) if mask is not None]
        tensors, plain, losses = split_by_lengths(
            outputs, [num_shared, num_tensors - num_shared, len(outputs) - num_tensors]
        )

        def gradient(*upstream: Any) -> tuple[Any, ...]:
            pieces, told = upstream[: exits.num_outputs], upstream[exits.num_outputs]
            of_losses = upstream[len(upstream) - len(losses) :]
            sites = exits.sites(pieces, kernels)
            step = balance_step(
                balancer,
                BranchGradients(sites, *read_tap(told), draws),
                Trunk(tensors, plain, losses, of_losses, pull_back),
                before,
                exact,
            )
            return (
                *step.gradients,
                *exits.parameter_gradients(sites, tensors),
                *step.state.marked().flat(),
            )

        return (
            *exits.leave(tensors, kernels),
            open_tap(before.weights.shape[0]),
            *plain,
            *after,
            *(masks[i] for i in masked),
            *losses,
        ), gradient

    results = _backend.custom_gradient(function, [*parameters, *kernels, *variables])
    leaving, tap = results[: exits.num_outputs], results[exits.num_outputs]
    rest = iter(results[exits.num_outputs + 1 :])
    plain = [next(rest) for _ in range(num_tensors - num_shared)]
    for variable in moved:
        variable.assign(next(rest))
    masks: list[Any] = [None] * num_tensors
    for index in masked:
        masks[index] = next(rest)
    return TrunkCall(exits.finish(leaving), tap, plain, masks, losses=list(rest))


def _check_assigned(balancer: Balancer, moved: Sequence[Any]) -> None:
    """Refuses layers that assign trainable weights: they would train differently.

    Plain training takes the gradient at the value that a layer assigned, and a balancer
    at the value before. On JAX both take the latter: Keras drops what the layer
    assigned.
    """
    trained = [variable.path for variable in moved if variable.trainable]
    if trained and not _backend.STATELESS:
        raise ValueError(
            f"`balancer` with level={balancer.level} needs shared layers that leave "
            "their trainable weights to the optimizer. Received layers that assign "
            f"{trained} when they are called, as SpectralNormalization does. Give the "
            'balancer level="representation".'
        )
