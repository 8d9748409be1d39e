"""What a step shows of the branches' gradients, summed over the sites."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from keras import ops

from lossweigh.balancing.site import Site
from lossweigh.gradients.written_out import join_small


def gramian(sites: Sequence[Site], num_branches: int) -> Any:
    """`(K, K)`: the inner products of the branches' whole gradients."""
    return _sum(_spread(s.gramian(), s, num_branches) for s in join_small(sites))


def squared_norms(sites: Sequence[Site], num_branches: int) -> Any:
    """`(K,)`: the Gramian's diagonal, for methods that look at nothing else."""
    return _sum(_spread(s.squared_norms(), s, num_branches) for s in join_small(sites))


def absolute_sums_and_sizes(sites: Sequence[Site], num_branches: int) -> list[Any]:
    """`(K,)` each: the sum of the absolute elements of gradients, and their number."""
    totals = _sum(_spread(s.absolute_sums(), s, num_branches) for s in sites)
    sizes = _sum(s.size() * _has_gradient(s, num_branches) for s in sites)
    return [totals, sizes]


def finite(sites: Sequence[Site], num_branches: int) -> Any:
    """`(K,)` bool: which branches' gradients are."""
    spoilt = [
        _spread(ops.logical_not(site.finite()), site, num_branches) for site in sites
    ]
    return ops.logical_not(functools.reduce(ops.logical_or, spoilt))


def _sum(several: Iterable[Any]) -> Any:
    return functools.reduce(ops.add, several)


def _has_gradient(site: Site, num_branches: int) -> Any:
    """`(K,)` float32: 1 for a branch that has a gradient at the site."""
    branches = np.zeros(num_branches, "float32")
    branches[list(site.branches)] = 1.0
    return ops.convert_to_tensor(branches)


def _spread(values: Any, site: Site, num_branches: int) -> Any:
    """`(K,)` or `(K, K)` from `(m,)` or `(m, m)`: 0 for branches without a gradient.

    Not by a product with a matrix of 0 and 1: 0 times nan would be nan for all.
    """
    number = len(site.branches)
    if site.branches == tuple(range(num_branches)):
        return values
    source = np.full(num_branches, number)
    source[list(site.branches)] = np.arange(number)
    source = ops.convert_to_tensor(source, "int32")
    values = ops.pad(values, [[0, 1]] * len(values.shape))
    for axis in range(len(values.shape)):
        values = ops.take(values, source, axis=axis)
    return values
