"""Branch gradients at one shared tensor or parameter, each written out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from lossweigh import _backend
from lossweigh.balancing.site import Site

# Gradients of up to so many elements are joined.
_SMALL = 2**15


@dataclasses.dataclass(frozen=True)
class WrittenOut(Site):
    """The gradients of m branches as m tensors of one shape.

    Attributes:
        branches: The branches, as indices.
        tensors: Their gradients.
    """

    branches: tuple[int, ...]
    tensors: Sequence[Any]

    def gramian(self) -> Any:
        return _backend.gramian(self.tensors)

    def squared_norms(self) -> Any:
        return _backend.stack([_backend.squared_norm(g) for g in self.tensors])

    def absolute_sums(self) -> Any:
        wide = [ops.cast(gradient, "float32") for gradient in self.tensors]
        return _backend.stack([ops.sum(ops.abs(gradient)) for gradient in wide])

    def size(self) -> Any:
        return ops.cast(ops.size(self.tensors[0]), "float32")

    def finite(self) -> Any:
        sums = [ops.sum(ops.cast(gradient, "float32")) for gradient in self.tensors]
        return ops.isfinite(_backend.stack(sums))

    def weighted_sum(self, weights: Any) -> Any:
        several = [weights[index] for index in range(len(self.branches))]
        return _backend.weighted_sum(self.tensors, several)

    def sums(self) -> tuple[Any, Any]:
        first, *others = [ops.cast(gradient, "float32") for gradient in self.tensors]
        total, absolute = first, ops.abs(first)
        for gradient in others:
            total = total + gradient
            absolute = absolute + ops.abs(gradient)
        return total, absolute

    def gradient(self, branch: int) -> Any:
        return self.tensors[self.branches.index(branch)]

    def only(self, which: Any) -> WrittenOut:
        kept = [
            ops.where(which[index], gradient, ops.zeros_like(gradient))
            for index, gradient in enumerate(self.tensors)
        ]
        return WrittenOut(self.branches, kept)


def join_small(sites: Sequence[Site]) -> list[Site]:
    """The same elements at fewer sites: small gradients of the same branches as one.

    Half of a network's parameters are vectors, and every site is a handful of
    operations for each pair of branches, to compile or to call.
    """
    joined: list[Site] = []
    small: dict[tuple[int, ...], list[WrittenOut]] = {}
    for site in sites:
        if isinstance(site, WrittenOut) and _is_small(site.tensors[0].shape):
            small.setdefault(site.branches, []).append(site)
        else:
            joined.append(site)
    for branches, several in small.items():
        if len(several) == 1:
            joined += several
            continue
        vectors = [
            ops.concatenate([_as_vector(site.tensors[index]) for site in several])
            for index in range(len(branches))
        ]
        joined.append(WrittenOut(branches, vectors))
    return joined


def _is_small(shape: Sequence[int | None]) -> bool:
    known = [length for length in shape if length is not None]
    return len(known) == len(shape) and math.prod(known) <= _SMALL


def _as_vector(tensor: Any) -> Any:
    return ops.cast(ops.reshape(tensor, (-1,)), "float32")
