"""Balancing at the shared tensors: one ordinary backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossweigh import _backend
from lossweigh.balancing.base import Balancer
from lossweigh.gradients.exits import Exits, split_by_lengths
from lossweigh.gradients.loss_tap import open_tap, read_tap
from lossweigh.gradients.state import BalancerState
from lossweigh.gradients.step import (
    BranchGradients,
    advance,
    combine,
    in_dtypes_of,
    measure,
)


def balance_tensors(
    balancer: Balancer,
    state: BalancerState,
    tensors: Sequence[Any],
    exits: Exits,
    draws: Any,
    noise: Sequence[Any] | None,
) -> tuple[list[Any], Any]:
    """Gives out the shared tensors; their gradients are balanced when they come back.

    Args:
        balancer: What combines the branches' gradients.
        state: The balancer's, as tensors of variables that are overwritten with what
            is returned as their gradients.
        tensors: The shared tensors, floating, of any rank.
        exits: How the branches leave them.
        draws: `(K, K)` random numbers, or `None`.
        noise: Random numbers of each tensor's shape, or `None`.

    Returns:
        What the heads take, shared tensor by shared tensor, and the tap `(K + 1,)`, for
        `LossTap`.
    """
    kernels, variables = exits.parameters(), state.flat()
    lengths = [len(tensors), len(kernels), len(variables)]

    def function(*given: Any) -> Any:
        shared, kernels, variables = split_by_lengths(given, lengths)
        before = state.filled(variables)

        def gradient(*upstream: Any) -> tuple[Any, ...]:
            *pieces, told = upstream
            sites = exits.sites(pieces, kernels)
            gradients = BranchGradients(sites, *read_tap(told), draws, noise)
            step_statistics, finite = measure(balancer, gradients)
            after = advance(balancer, step_statistics, before)
            combined = combine(balancer, gradients, after.weights, finite)
            return (
                *in_dtypes_of(combined, shared),
                *exits.parameter_gradients(sites, shared),
                *after.marked().flat(),
            )

        tap = open_tap(before.weights.shape[0])
        return (*exits.leave(shared, kernels), tap), gradient

    *leaving, tap = _backend.custom_gradient(function, [*tensors, *kernels, *variables])
    return exits.finish(leaving), tap
