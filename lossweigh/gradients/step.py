"""From the branches' gradients in one step to their weights and their weighted sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras import ops

from lossweigh import _backend, _replicas
from lossweigh.balancing.base import Balancer, StepStatistics
from lossweigh.balancing.site import Site
from lossweigh.gradients import statistics
from lossweigh.gradients.state import BalancerState


@dataclasses.dataclass(frozen=True)
class BranchGradients:
    """The branch gradients of one step, and what came with them.

    Attributes:
        sites: The gradients at each shared tensor, or parameter.
        losses: `(K,)`, the branch losses.
        scale: The loss scale.
        draws: `(K, K)` random numbers, or `None`.
        noise: Random numbers of each tensor's shape, or `None`.
    """

    sites: Sequence[Site]
    losses: Any
    scale: Any
    draws: Any = None
    noise: Sequence[Any] | None = None

    @property
    def num_branches(self) -> int:
        return int(self.losses.shape[0])


def measure(
    balancer: Balancer, gradients: BranchGradients, *, of_replica: bool = True
) -> tuple[StepStatistics, Any]:
    """The statistics of the step, and `(K,)` which branches' gradients are finite.

    Each replica differentiates the mean loss of its own rows, and the batch's loss is
    the mean of these. So what a replica holds is too long by the number of replicas;
    `scale` takes that out, and sums over replicas give the whole batch's Gramian.

    Args:
        balancer: What combines the gradients.
        gradients: The branches' gradients.
        of_replica: Whether these are of this replica's rows only.
    """
    sites, number = gradients.sites, gradients.num_branches
    scale = gradients.scale
    if of_replica:
        scale = scale * _backend.replicas()

    def add_up(tensors: list[Any]) -> list[Any]:
        return _replicas.totals(tensors) if of_replica else tensors

    if balancer.needs_angles:
        (gramian,) = add_up([statistics.gramian(sites, number)])
        gramian = gramian / (scale * scale)
        squares = ops.diagonal(gramian)
    else:
        (squares,) = add_up([statistics.squared_norms(sites, number)])
        squares = squares / (scale * scale)
        gramian = ops.diag(squares)
    finite = ops.isfinite(squares)
    present = finite & (squares > 0)
    pairs = present[None, :] & present[:, None]
    mean_abs = None
    if balancer.needs_mean_abs:
        absolute = statistics.absolute_sums_and_sizes(sites, number)
        sums, sizes = add_up(absolute)
        mean_abs = sums / ops.maximum(sizes, 1.0) / scale
        mean_abs = ops.where(present, mean_abs, ops.zeros_like(mean_abs))
    gramian = ops.where(pairs, gramian, ops.zeros_like(gramian))
    step_statistics = StepStatistics(
        gramian, present, gradients.losses, mean_abs, gradients.draws
    )
    return step_statistics, finite


def advance(
    balancer: Balancer, step_statistics: StepStatistics, before: BalancerState
) -> BalancerState:
    """Weights and state, finite, and unmoved for branches that aren't present."""
    weights, method = balancer.advance(step_statistics, dict(before.method))
    weights = ops.cast(weights, "float32")
    usable = ops.logical_and(step_statistics.present, ops.isfinite(weights))
    weights = ops.where(usable, weights, before.weights)
    kept = {}
    for name, old in before.method.items():
        new = ops.cast(method[name], "float32")
        kept[name] = ops.where(ops.isfinite(new), new, old)
    return before.replace(weights=weights, gramian=step_statistics.gramian, method=kept)


def combine(
    balancer: Balancer, gradients: BranchGradients, weights: Any, finite: Any
) -> list[Any]:
    """The combined gradient at each site, without branches that aren't finite.

    Under loss scaling it leaves them in: the optimizer sees them, skips the step and
    lowers the scale.
    """
    number = gradients.num_branches
    isolate = ~ops.all(finite) & (gradients.scale < 1.5)

    def combined(sites: Sequence[Site]) -> list[Any]:
        noise = gradients.noise or [None] * len(sites)
        return [
            balancer.combine(site, of_branches(weights, site, number), each)
            for site, each in zip(sites, noise, strict=True)
        ]

    def of_the_finite() -> list[Any]:
        keep = ops.logical_or(finite, ops.logical_not(isolate))
        return combined(
            [site.only(of_branches(keep, site, number)) for site in gradients.sites]
        )

    if _backend.FUSES_ELEMENTWISE:
        return of_the_finite()  # selects in passing; a branch would stop it
    return list(
        ops.cond(isolate, of_the_finite, lambda: combined(list(gradients.sites)))
    )


def of_branches(values: Any, site: Site, num_branches: int) -> Any:
    """`(m,)` of `(K,)`: the values of the branches at a site."""
    if site.branches == tuple(range(num_branches)):
        return values
    return ops.take(values, ops.convert_to_tensor(site.branches, "int32"))


def in_dtypes_of(gradients: Sequence[Any], tensors: Sequence[Any]) -> list[Any]:
    """The gradients, each in the dtype of its tensor."""
    pairs = zip(gradients, tensors, strict=True)
    return [ops.cast(gradient, tensor.dtype) for gradient, tensor in pairs]
