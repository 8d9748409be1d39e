"""What a balancer keeps from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh.balancing.base import Balancer


@dataclasses.dataclass(frozen=True)
class BalancerState:
    """The variables of a balancer, or their values in one step.

    Attributes:
        weights: `(K,)`, the weights of the last step.
        canary: `(1,)`, which each step overwrites with 1.
        gramian: `(K, K)`, the inner products of the branches' gradients when weights
            were last found, where the balancer's level looks at them.
        method: What `Balancer.initial_state` names.
        level: What `Level.initial_state` names.
    """

    weights: Any
    canary: Any
    gramian: Any
    method: dict[str, Any]
    level: dict[str, Any]

    def flat(self) -> list[Any]:
        """All of it, in one order."""
        kept = [*self.method.values(), *self.level.values()]
        return [self.weights, self.canary, self.gramian, *kept]

    def filled(self, flat: Iterable[Any]) -> BalancerState:
        """The same with other values, in the order of `flat`."""
        weights, canary, gramian, *kept = flat
        values = iter(kept)
        method = {name: next(values) for name in self.method}
        level = {name: next(values) for name in self.level}
        return BalancerState(weights, canary, gramian, method, level)

    def replace(self, **changes: Any) -> BalancerState:
        """The same with other fields."""
        return dataclasses.replace(self, **changes)

    def marked(self) -> BalancerState:
        """The same with a canary of 1, which says that a step wrote it."""
        return self.replace(canary=ops.ones_like(self.canary))


def add_state(
    layer: keras.layers.Layer, balancer: Balancer, number: int
) -> BalancerState:
    """Adds a balancer's variables to a layer.

    A backward pass can return more than gradients in one way on all backends: as the
    "gradient" of a variable that the optimizer overwrites with it.

    Args:
        layer: Where the variables are added.
        balancer: What combines the branches' gradients.
        number: How many branches there are.

    Returns:
        The variables.
    """

    def add(name: str, values: Any) -> Any:
        array = np.array(values, "float32")
        return layer.add_weight(
            name=name,
            shape=array.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                array, dtype=dtype
            ),
            trainable=True,
            overwrite_with_gradient=True,
            aggregation="mean",
        )

    method = balancer.initial_state(number)
    level = balancer.level.initial_state(number)
    return BalancerState(
        weights=add("weights", [1.0] * number),
        canary=add("canary", [1.0]),
        gramian=add("gramian", np.zeros((number, number))),
        method={name: add(f"method_{name}", v) for name, v in method.items()},
        level={name: add(f"level_{name}", v) for name, v in level.items()},
    )
