"""Constraints that bound loss weights, or keep their sum at 1."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check


@keras.saving.register_keras_serializable(package="lossweigh")
class Between(keras.constraints.Constraint):
    """Clips every element of a variable to `[min_value, max_value]`.

    Keras applies a constraint after each step of the optimizer, to trainable
    variables only.

    Args:
        min_value: Float, the lower bound.
        max_value: Float, the upper bound, greater than `min_value`.

    Raises:
        ValueError: If a bound isn't finite, or the bounds are the wrong way
            round.
        TypeError: If a bound isn't a number.

    Examples:
        >>> from keras import ops
        >>> clipped = Between(0, 1)(ops.convert_to_tensor([-0.5, 0.25, 3.0]))
        >>> print(ops.convert_to_numpy(clipped))
        [0.   0.25 1.  ]
    """

    def __init__(self, min_value: float, max_value: float) -> None:
        self.min_value, self.max_value = _check.bounds(min_value, max_value)

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w)
        return ops.clip(w, self.min_value, self.max_value)

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value, "max_value": self.max_value}


@keras.saving.register_keras_serializable(package="lossweigh")
class Simplex(keras.constraints.Constraint):
    """Projects vectors onto the simplex `sum(w) = 1, w >= min_value`.

    The projection is the closest point of the simplex, by the threshold of Duchi et
    al. A tensor of rank 2 or more is projected along its last axis. A tensor of rank 0
    becomes 1.

    Args:
        min_value: Float in `[0, 1)`, the lower bound of each element. For a vector of
            K elements, `K * min_value` may not be more than 1.

    Raises:
        ValueError: If `min_value` is out of range; in the call, if it is too large for
            the number of elements.

    Examples:
        >>> from keras import ops
        >>> w = Simplex(min_value=0.1)(ops.convert_to_tensor([2.0, 0.5, -1.0]))
        >>> print(ops.convert_to_numpy(w).round(4))
        [0.8 0.1 0.1]

    Reference:
        J. Duchi, S. Shalev-Shwartz, Y. Singer, T. Chandra. Efficient
        projections onto the l1-ball for learning in high dimensions. ICML 2008.
    """

    def __init__(self, min_value: float = 0.0) -> None:
        self.min_value = _check.between("min_value", min_value, 0.0, 1.0)

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w)
        if len(w.shape) == 0:
            return ops.ones_like(w)
        size = w.shape[-1]
        if size * self.min_value > 1 + 1e-6:
            raise ValueError(
                f"`min_value` must be at most 1/{size} for {size} weights that "
                f"sum to 1. Received: min_value={self.min_value}."
            )
        # The sum that is left after each element has its minimum.
        radius = max(1.0 - size * self.min_value, 0.0)
        shifted = w - self.min_value
        # For each k, the sum of the k largest elements less the radius, divided by k:
        # the threshold is the largest of these. (For many elements a sort would be
        # faster than comparing all pairs, but it takes many times longer to compile.)
        each, other = ops.expand_dims(shifted, -1), ops.expand_dims(shifted, -2)
        above = ops.cast(other >= each, w.dtype)
        excess = ops.sum(above * other, axis=-1) - radius
        share = excess / ops.sum(above, axis=-1)
        threshold = ops.max(share, axis=-1, keepdims=True)
        return ops.maximum(shifted - threshold, 0) + self.min_value

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value}
