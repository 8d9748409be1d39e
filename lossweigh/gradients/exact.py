"""One backward pass of a balancer that looks at the shared parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from keras import ops

from lossweigh import _backend, _replicas
from lossweigh.balancing.base import Balancer
from lossweigh.balancing.levels import Calibrated, ExactLevel
from lossweigh.balancing.site import Site
from lossweigh.gradients import statistics
from lossweigh.gradients.state import BalancerState
from lossweigh.gradients.step import (
    BranchGradients,
    advance,
    combine,
    in_dtypes_of,
    measure,
)
from lossweigh.gradients.written_out import WrittenOut


class BalancedStep(NamedTuple):
    """What a backward pass through the shared layers finds.

    Attributes:
        gradients: One for each shared parameter.
        state: The balancer's, after the step.
    """

    gradients: list[Any]
    state: BalancerState

    def flat(self) -> tuple[list[Any], list[Any]]:
        """The gradients and the state as lists."""
        return self.gradients, self.state.flat()


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The shared layers, as a backward pass sees them.

    Attributes:
        tensors: The shared tensors.
        plain: The other tensors that the trunk gave; no gradient is pulled from them.
        losses: The losses that its layers added, which aren't balanced.
        loss_gradients: What came back as their gradients.
        pull_back: Takes gradients of all these, several times, to the parameters'
            gradients. It walks only what leads to those that aren't `None`.
    """

    tensors: Sequence[Any]
    plain: Sequence[Any]
    losses: Sequence[Any]
    loss_gradients: Sequence[Any]
    pull_back: Callable[[Iterable[Sequence[Any]]], list[list[Any]]]

    def pull(self, several: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """From gradients of the shared tensors, several times, to the parameters'."""
        nothing = [None] * (len(self.plain) + len(self.losses))
        return self.pull_back([*gradients, *nothing] for gradients in several)

    def pull_with_losses(self, gradients: Sequence[Any]) -> list[Any]:
        """The same once, with the gradients of the losses added."""
        nothing = [None] * len(self.plain)
        return self.pull_back([[*gradients, *nothing, *self.loss_gradients]])[0]


def balance_step(
    balancer: Balancer,
    gradients: BranchGradients,
    trunk: Trunk,
    before: BalancerState,
    exact: bool | None,
) -> BalancedStep:
    """Makes an exact pass, or the cheap one between two of them.

    Args:
        balancer: What combines the branches' gradients.
        gradients: These, at the shared tensors.
        trunk: What takes them to the shared parameters.
        before: The state that the last step left.
        exact: Whether to make an exact pass; `None` to see by the state's age.
    """
    level: Any = balancer.level
    if level.update_every == 1:
        exact = True
    pass_of = _calibrated_pass if isinstance(level, Calibrated) else _kept_pass

    def exactly() -> BalancedStep:
        step = _exact_pass(balancer, gradients, trunk, before)
        return _aged(step, level, ops.ones_like(before.level["age"]))

    def cheaply() -> BalancedStep:
        step = pass_of(balancer, gradients, trunk, before)
        return _aged(step, level, before.level["age"] + 1.0)

    if exact is not None:
        return exactly() if exact else cheaply()
    is_due = ops.equal(before.level["age"], 0.0)
    parameters, state = ops.cond(
        is_due, lambda: exactly().flat(), lambda: cheaply().flat()
    )
    return BalancedStep(parameters, before.filled(state))


def _exact_pass(
    balancer: Balancer,
    gradients: BranchGradients,
    trunk: Trunk,
    before: BalancerState,
) -> BalancedStep:
    """The weights of the branches' gradients at the parameters.

    K backward passes, each through the calls that its branch depends on.
    """
    number = gradients.num_branches
    pulled = trunk.pull(
        _gradients_of(branch, gradients.sites, trunk.tensors)
        for branch in range(number)
    )
    whole = _at_parameters(gradients, _of_all_replicas(pulled))
    step_statistics, finite = measure(balancer, whole, of_replica=False)
    state = advance(balancer, step_statistics, before)
    if isinstance(balancer.level, Calibrated):
        state = state.replace(level=_ratios(gradients, step_statistics, before))
    parameters = [several[0] for several in zip(*pulled, strict=True)]
    at_parameters = _at_parameters(gradients, pulled)
    combined = combine(balancer, at_parameters, state.weights, finite)
    combined = in_dtypes_of(combined, parameters)
    if trunk.losses:
        nothing = [None] * len(trunk.tensors)
        of_losses = trunk.pull_with_losses(nothing)
        combined = [ops.add(*two) for two in zip(combined, of_losses, strict=True)]
    return BalancedStep(combined, state)


def _at_parameters(
    gradients: BranchGradients, pulled: list[list[Any]]
) -> BranchGradients:
    """The gradients of one step at the parameters, from lists of them by branch."""
    branches = tuple(range(gradients.num_branches))
    sites = [WrittenOut(branches, several) for several in zip(*pulled, strict=True)]
    return dataclasses.replace(gradients, sites=sites)


def _of_all_replicas(pulled: list[list[Any]]) -> list[list[Any]]:
    """The branches' gradients of the whole batch, from those of each replica's rows.

    Inner products of sums need the sums: as many numbers as there are parameters, for
    each branch.
    """
    number = _backend.replicas()
    if number == 1:
        return pulled
    return [[one / number for one in _replicas.totals(several)] for several in pulled]


def _ratios(
    gradients: BranchGradients, step_statistics: Any, before: BalancerState
) -> dict[str, Any]:
    """The level's state with new ratios of the norms at the parameters and here."""
    squares = statistics.squared_norms(gradients.sites, gradients.num_branches)
    scale = gradients.scale * _backend.replicas()
    squares = _replicas.total(squares) / (scale * scale)
    known = step_statistics.present & ops.isfinite(squares) & (squares > 0)
    norms = ops.sqrt(ops.diagonal(step_statistics.gramian))
    ratios = norms / ops.sqrt(ops.where(known, squares, ops.ones_like(squares)))
    return {**before.level, "ratios": ops.where(known, ratios, before.level["ratios"])}


def _kept_pass(
    balancer: Balancer,
    gradients: BranchGradients,
    trunk: Trunk,
    before: BalancerState,
) -> BalancedStep:
    """One backward pass with the weights of the last exact one."""
    finite = statistics.finite(gradients.sites, gradients.num_branches)
    finite = ops.logical_not(_replicas.on_any(ops.logical_not(finite)))
    return _pull_combined(balancer, gradients, trunk, before, finite)


def _calibrated_pass(
    balancer: Balancer,
    gradients: BranchGradients,
    trunk: Trunk,
    before: BalancerState,
) -> BalancedStep:
    """One backward pass with weights from lengths that the ratios correct."""
    step_statistics, finite = measure(balancer, gradients)
    ratios = before.level["ratios"]
    outer = ops.expand_dims(ratios, 0) * ops.expand_dims(ratios, 1)
    mean_abs = step_statistics.mean_abs
    step_statistics = dataclasses.replace(
        step_statistics,
        gramian=step_statistics.gramian * outer,
        mean_abs=None if mean_abs is None else mean_abs * ratios,
    )
    state = advance(balancer, step_statistics, before)
    return _pull_combined(balancer, gradients, trunk, state, finite)


def _pull_combined(
    balancer: Balancer,
    gradients: BranchGradients,
    trunk: Trunk,
    state: BalancerState,
    finite: Any,
) -> BalancedStep:
    combined = combine(balancer, gradients, state.weights, finite)
    combined = in_dtypes_of(combined, trunk.tensors)
    return BalancedStep(trunk.pull_with_losses(combined), state)


def _aged(step: BalancedStep, level: ExactLevel, age: Any) -> BalancedStep:
    """The step with its age in the state: how long ago the last exact pass was."""
    age = ops.where(age >= level.update_every, ops.zeros_like(age), age)
    state = step.state
    return step._replace(state=state.replace(level={**state.level, "age": age}))


def _gradients_of(
    branch: int, sites: Sequence[Site], tensors: Sequence[Any]
) -> list[Any]:
    """The gradients of one branch at all shared tensors, written out.

    `None` where it doesn't leave: what only leads there isn't walked for it.
    """
    return [
        ops.cast(site.gradient(branch), tensor.dtype)
        if branch in site.branches
        else None
        for site, tensor in zip(sites, tensors, strict=True)
    ]
