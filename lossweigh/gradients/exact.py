"""A step of a balancer that looks at the shared parameters, now and then at least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from lossweigh.balancing.base import Balancer
from lossweigh.gradients.combining import Arrived, advance, look, mix
from lossweigh.gradients.statistics import finite_ones, squares_of


def at_the_parameters(
    balancer: Balancer,
    arrived: Arrived,
    tensors: Sequence[Any],
    pull: Callable[..., list[list[Any]]],
    before: list[Any],
    losses: bool,
) -> tuple[list[Any], Any, list[Any]]:
    """The parameters' gradients, the weights and the state of one step.

    Args:
        balancer: What combines the branches' gradients.
        arrived: These, at the shared tensors.
        tensors: The shared tensors.
        pull: From gradients of the shared tensors, several times, to those of the
            parameters; by keyword, whether with those of the shared layers' own
            losses.
        before: The weights and the state of the step before.
        losses: Whether these layers have losses of their own, which aren't balanced.
    """
    number = balancer.num_branches
    age = before[1][-1]
    calibrated = balancer.level == "calibrated"
    factors = before[1][balancer.num_kept : balancer.num_kept + number]

    def aged(state: list[Any], exact: bool, factors: Any) -> Any:
        """The method's state, the factors and the age in one vector."""
        now = 1.0 if exact else age + 1.0
        now = ops.where(now >= balancer.update_every, 0.0, now)
        parts = [state[0][: balancer.num_kept]] if state else []
        parts += [factors] if calibrated else []
        return ops.concatenate([*parts, ops.reshape(now, (1,))])

    def exactly() -> tuple[list[Any], Any, Any]:
        pulled = pull(_written_out(arrived, tensors, k) for k in range(number))
        exact = dataclasses.replace(
            arrived,
            branches=[dict(enumerate(gradients)) for gradients in pulled],
            owners=[range(number)] * len(pulled[0]),
            products={},
        )
        seen, finite = look(balancer, exact)
        weights, state = advance(balancer, seen, before)
        new = factors
        if calibrated:
            near = squares_of(arrived.branches, arrived.products.values())
            near = near / (arrived.scale * arrived.scale)
            known = seen.present & ops.isfinite(near) & (near > 0)
            norms = ops.sqrt(ops.diagonal(seen.gramian))
            new = norms / ops.sqrt(ops.where(known, near, 1.0))
            new = ops.where(known, new, factors)
        mixed = mix(balancer, exact, weights, finite)
        if losses:
            none = [ops.zeros_like(tensor) for tensor in tensors]
            (own,) = pull([none], with_losses=True)
            mixed = [ops.add(*both) for both in zip(mixed, own, strict=True)]
        return mixed, weights, aged(state, True, new)

    def cheaply() -> tuple[list[Any], Any, Any]:
        weights, state = before[0], before[1:]
        if calibrated:
            seen, finite = look(balancer, arrived)
            outer = ops.expand_dims(factors, 0) * ops.expand_dims(factors, 1)
            seen = dataclasses.replace(
                seen,
                gramian=seen.gramian * outer,
                mean_abs=None if seen.mean_abs is None else seen.mean_abs * factors,
            )
            weights, state = advance(balancer, seen, before)
        else:
            finite = finite_ones(arrived.branches, arrived.products.values())
        mixed = [
            ops.cast(gradient, tensor.dtype)
            for gradient, tensor in zip(
                mix(balancer, arrived, weights, finite), tensors, strict=True
            )
        ]
        return (
            pull([mixed], with_losses=losses)[0],
            weights,
            aged(state, False, factors),
        )

    refreshes = True if balancer.update_every == 1 else balancer.refreshes
    if refreshes is None:
        found, weights, state = ops.cond(ops.equal(age, 0.0), exactly, cheaply)
    else:
        found, weights, state = exactly() if refreshes else cheaply()
    return found, weights, [state]


def _written_out(arrived: Arrived, tensors: Sequence[Any], branch: int) -> list[Any]:
    """The gradients of one branch at all shared tensors."""
    gradients = []
    for place, tensor in enumerate(tensors):
        if branch not in arrived.owners[place]:
            gradients.append(ops.zeros_like(tensor))
        elif place in arrived.products:
            whole = arrived.products[place].of_branch(branch)
            gradients.append(ops.cast(whole, tensor.dtype))
        else:
            gradients.append(arrived.branches[branch][place])
    return gradients
