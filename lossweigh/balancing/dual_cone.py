"""Hwang & Lim: dual cone gradient descent, for two branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer

VARIANTS = ("center", "average", "projection")


@keras.saving.register_keras_serializable(package="lossweigh")
class DualCone(Balancer):
    """A direction in the dual cone of two gradients, along which neither loss rises.

        center:      (c . g / ||c||^2) c,    c = r / ||r|| + b / ||b||
        average:     (r' + b') / 2    if r . g < 0 or b . g < 0, else g
        projection:  r'    if b . g < 0,    b'    if r . g < 0,    else g

    with `r` and `b` the gradients of the two branches (the residual of a differential
    equation and its boundary values, in the paper), `g = r + b` their sum,
    `r' = r - (r . b / ||b||^2) b` the part of `r` at a right angle to `b`, and
    `b' = b - (r . b / ||r||^2) r` likewise. The center is the cone's axis, with `g`
    projected on it. The other two leave `g` alone where it is in the cone; elsewhere
    the projection is the nearest in the cone.

    The weights are 1 for orthogonal gradients of one length, so the learning rate is
    that of the plain sum. The center's are inverse to the gradients' lengths and have
    the same harmonic mean, 1, at each angle. Identical gradients keep 1 each.
    Opposite ones cancel each other: then the shared layers are not updated. A gradient
    of 0 has the weight 0 by the center, and 1 by the others.

    The center is `ConFIG` for two branches. For more, take that or `UPGrad`.

    Args:
        variant: `"center"`, `"average"` or `"projection"`.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If there is no such variant, or there aren't two branches.

    Examples:
        >>> from keras import ops
        >>> gramian = ops.array([[1.0, -2.0], [-2.0, 5.0]])
        >>> for variant in ("center", "average", "projection"):
        ...     weights = DualCone(variant=variant).solve(gramian)
        ...     print(ops.convert_to_numpy(weights).round(4))
        [1.618  0.7236]
        [1.5 0.7]
        [2. 1.]

    Reference:
        Y. Hwang, D. Lim. Dual cone gradient descent for training physics-informed
        neural networks. NeurIPS 2024.
    """

    def __init__(self, *, variant: str = "center", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variant = _check.one_of("variant", variant, VARIANTS)

    def set_branches(self, branches: Sequence[str]) -> None:
        _check_two(len(branches))
        super().set_branches(branches)

    def solve(self, gramian: Any, present: Any = None) -> Any:
        _check_two(gramian.shape[0])
        lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
        if self.variant == "center":
            # c . g = (||r|| + ||b||) (1 + cosine) and ||c||^2 = 2 (1 + cosine): the
            # angle cancels out.
            count = ops.cast(nonzero, "float32")
            mean = ops.sum(lengths * count) / ops.maximum(ops.sum(count), 1.0)
            return count * (mean / lengths)
        kept = _cosines.presence(present, 2)
        others, cosine = ops.flip(lengths), cosines[0, 1]
        # Which loss would rise along the sum, and the weight in the other's r' or b'.
        rises = lengths + cosine * others < 0.0
        part = -cosine * (others / lengths)
        if self.variant == "average":
            return ops.where(ops.any(rises), 0.5 * (1.0 + part), 1.0) * kept
        return ops.where(rises, part, 1.0) * kept

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "variant": self.variant}


def _check_two(number: int) -> None:
    if number != 2:
        raise ValueError(
            "`DualCone` balances two branches: the cone is that of two gradients. "
            f"Received {number}. Use `ConFIG`, which is its center for any number of "
            "branches."
        )
