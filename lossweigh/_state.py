"""Has a layer learned anything since it was built?"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def differs(layer: Any, unmoved: Any) -> bool:
    """Whether the numbers of two layers of one kind differ.

    Args:
        layer: A layer that may have been trained.
        unmoved: Another of the same class and arguments, just built.
    """
    pairs = zip(layer.weights, unmoved.weights, strict=True)
    return not all(
        np.array_equal(ops.convert_to_numpy(now), ops.convert_to_numpy(before))
        for now, before in pairs
    )
