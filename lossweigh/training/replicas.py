"""What several replicas of a training model don't know of each other."""

from __future__ import annotations

import warnings

from lossweigh import _backend
from lossweigh.training.wiring import Wiring
from lossweigh.weighting.fixed_weights import FixedWeights


def warn_of_replicas(wiring: Wiring) -> bool:
    """Warns where several devices, each with a part of the batch, differ from one.

    Each divides by the number of its own labels, and weighs by its own losses and
    gradients; only then are the gradients added up.

    Args:
        wiring: The training model's.

    Returns:
        Whether there are several.
    """
    number = _backend.replicas()
    if number == 1:
        return False
    apart = []
    if wiring.valid:
        apart.append("masks and missing labels")
    if wiring.points:
        kinds = sorted({type(weights).__name__ for weights in wiring.points.values()})
        apart.append(f"the weights of points {', '.join(kinds)}")
    if not isinstance(wiring.weighter, FixedWeights):
        apart.append(f"the weighter {type(wiring.weighter).__name__}")
    if wiring.balanced is not None:
        apart.append(f"the balancer {type(wiring.balanced.balancer).__name__}")
    if apart:
        warnings.warn(
            f"The training model runs on {number} replicas, which don't know of each "
            "other's part of the batch. So these give other numbers than on one "
            f"device: {', '.join(apart)}. Train on one device, on JAX, or with "
            "`FixedWeights` and complete targets.",
            stacklevel=4,
        )
    return True
