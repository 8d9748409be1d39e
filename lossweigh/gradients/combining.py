"""From the branches' gradients in one step to their weights and their weighted sum."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend
from lossweigh.balancing.base import Balancer, Seen
from lossweigh.gradients.dense import Products
from lossweigh.gradients.statistics import gramian_of, mean_abs_of, squares_of


@dataclasses.dataclass(frozen=True)
class Arrived:
    """What a backward pass brings to the place where the branches' gradients meet.

    Attributes:
        branches: For each branch its gradients, by place: a shared tensor, or a
            parameter. Without those in `products`.
        products: The gradients at places that all branches leave by `Dense`.
        owners: For each place the branches that have a gradient there, as indices.
        losses: `(K,)`, the branch losses.
        scale: The loss scale.
        draws: What `Balancer.draw` gave.
    """

    branches: list[dict[int, Any]]
    owners: Sequence[Sequence[int]]
    losses: Any
    scale: Any
    draws: Any
    products: Mapping[int, Products]


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """What has no dtype of its own is float32, as Gramians and weights are."""
    given = keras.config.floatx()
    keras.config.set_floatx("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(given)


def look(balancer: Balancer, arrived: Arrived) -> tuple[Seen, Any]:
    """What there is to see, and which branches' gradients are finite."""
    branches, scale = arrived.branches, arrived.scale
    products = arrived.products.values()
    if balancer.needs_angles:
        gramian = gramian_of(branches, products) / (scale * scale)
        norms = ops.diagonal(gramian)
    else:
        norms = squares_of(branches, products) / (scale * scale)
        gramian = ops.diag(norms)
    finite = ops.isfinite(norms)
    present = finite & (norms > 0)
    both = present[None, :] & present[:, None]
    mean_abs = None
    if balancer.needs_mean_abs:
        mean_abs = mean_abs_of(branches, products) / scale
        mean_abs = ops.where(present, mean_abs, 0.0)
    gramian = ops.where(both, gramian, 0.0)
    return Seen(gramian, present, arrived.losses, mean_abs, arrived.draws), finite


def advance(balancer: Balancer, seen: Seen, before: list[Any]) -> tuple[Any, list[Any]]:
    """Weights and state, finite, and unmoved for branches that aren't present."""
    kept = before[1][: balancer.num_kept] if balancer.num_kept else ops.zeros((0,))
    weights, state = balancer.advance(seen, kept)
    usable = ops.logical_and(seen.present, ops.isfinite(weights))
    weights = ops.where(usable, weights, before[0])
    if not balancer.num_kept:
        return weights, before[1:]
    return weights, [ops.where(ops.isfinite(state), state, kept)]


def mix(balancer: Balancer, arrived: Arrived, weights: Any, finite: Any) -> list[Any]:
    """`sum_k w_k g_k` at each place, without the branches that aren't finite.

    Under loss scaling they are left in: the optimizer sees them, skips the
    step and lowers the scale.
    """
    isolate = ~ops.all(finite) & (arrived.scale < 1.5)

    def mixed(of: list[dict[int, Any]], products: Mapping[int, Products]) -> list[Any]:
        return [
            balancer._mix_products(
                products[place], [weights[k] for k in who], place, arrived.draws
            )
            if place in products
            else balancer.mix(
                [of[k][place] for k in who],
                [weights[k] for k in who],
                place,
                arrived.draws,
            )
            for place, who in enumerate(arrived.owners)
        ]

    def the_finite() -> list[Any]:
        keep = ops.logical_or(finite, ops.logical_not(isolate))
        clean = [
            {place: ops.where(keep[k], g, ops.zeros_like(g)) for place, g in mine}
            for k, mine in enumerate(m.items() for m in arrived.branches)
        ]
        return mixed(
            clean,
            {
                place: product.only(_backend.stack([keep[k] for k in product.who]))
                for place, product in arrived.products.items()
            },
        )

    if keras.backend.backend() == "jax":
        return the_finite()  # XLA selects in passing; a branch would stop it
    return list(
        ops.cond(isolate, the_finite, lambda: mixed(arrived.branches, arrived.products))
    )
