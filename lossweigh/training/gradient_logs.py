"""What a balancer saw of the branches' gradients, as numbers to log."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from lossweigh import _backend
from lossweigh.gradients.balanced import BalancedModel
from lossweigh.inspection.inspection import logs_pairs


def norm_names(branches: Sequence[str], level: str) -> list[str]:
    """The logs of the norms that a balancer saw, in the order of the branches."""
    return [f"{branch}_gradient_norm_at_{level}" for branch in branches]


def cosine_names(branches: Sequence[str], level: str) -> list[str]:
    """The names of the cosines of all pairs; logs, if `logs_pairs`."""
    between = "_" if logs_pairs(branches) else "/"
    pairs = itertools.combinations(branches, 2)
    return [f"{one}{between}{other}_cosine_at_{level}" for one, other in pairs]


def level_of(balanced: BalancedModel) -> str:
    """The word for where the balancer takes gradients."""
    return type(balanced.balancer.level).__name__.lower()


def norms(gramian: Any) -> Any:
    """`(K,)` of `(K, K)`."""
    return ops.sqrt(ops.diagonal(gramian))


def shares(gramian: Any, weights: Any) -> Any:
    """`(K,)`: the parts of the combined gradient's summands, which sum to 1.

    Args:
        gramian: `(K, K)`.
        weights: `(K,)`, a balancer's of the gradients.
    """
    sizes = ops.absolute(weights) * norms(gramian)
    return ops.divide_no_nan(sizes, ops.sum(sizes))


def cosines(gramian: Any) -> Any:
    """`(K (K - 1) / 2,)` of `(K, K)`, for all pairs; 0 where a gradient is 0."""
    number = gramian.shape[0]
    lengths = norms(gramian)
    scaled = ops.divide_no_nan(gramian, ops.outer(lengths, lengths))
    pairs = itertools.combinations(range(number), 2)
    flat = ops.reshape(scaled, (-1,))
    return _backend.stack([flat[one * number + other] for one, other in pairs])


def few_cosines(
    means: Mapping[str, float], branches: Sequence[str], level: str
) -> dict[str, float]:
    """The cosines to log: of all pairs, or the lowest of each branch.

    Args:
        means: The mean cosines by their names of `cosine_names`.
        branches: The branches' names.
        level: As for `cosine_names`.
    """
    names = cosine_names(branches, level)
    if logs_pairs(branches):
        return {name: means[name] for name in names}
    lowest: dict[str, float] = {}
    for pair, name in zip(itertools.combinations(branches, 2), names, strict=True):
        for branch in pair:
            log = f"{branch}_lowest_cosine_at_{level}"
            lowest[log] = min(lowest.get(log, 1.0), means[name])
    return lowest
