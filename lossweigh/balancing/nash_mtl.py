"""Navon et al.: multi-task learning as a bargaining game."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines, _solvers
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class NashMTL(Balancer):
    """The Nash bargaining solution between the branches.

        G w = 1 / w,    w > 0

    with `G` the Gramian of the gradients: the direction `d` that maximizes
    `sum_k log(g_k . d)` over a ball, the only one that is Pareto optimal, treats
    branches alike and doesn't depend on the scale of any loss. The weights are the
    minimum of the convex `1/2 w' G w - sum_k log w_k`, found by a damped Newton
    method to the precision of float32.

    The weights sum to no fixed number; **the combined gradient has the length
    `sqrt(K)`, whatever the gradients' lengths**, as `w' G w = K`. So the learning
    rate means a distance, as in sign descent; lower it towards the end of training,
    or bound the length with `max_norm`.

    A gradient of 0 has the weight 0, and the others are balanced without it.
    Identical gradients have equal weights. Opposite ones have no solution: the closer
    gradients come to that, the larger their weights; a ridge of 1e-5 on the cosines
    keeps them below about 300 over the gradient's length. For K = 1 the weight is 1
    over the length.

    Differs from the authors' code: that one solves a sequence of convex
    approximations from the last step's weights, and keeps those when its solver
    fails or isn't installed.

    Args:
        max_norm: Float greater than 0, the largest length of the combined gradient
            (the authors' experiments: 1), or `None` for no bound. A bound below
            `sqrt(K)` is reached in every step.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If `max_norm` is out of range.

    Examples:
        >>> from keras import ops
        >>> weights = NashMTL().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(2))
        [0.59 0.41]

    Reference:
        A. Navon, A. Shamsian, I. Achituve, H. Maron, K. Kawaguchi, G. Chechik,
        E. Fetaya. Multi-task learning as a bargaining game. ICML 2022.
    """

    def __init__(self, *, max_norm: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_norm = (
            None if max_norm is None else _check.positive("max_norm", max_norm)
        )

    def solve(self, gramian: Any, present: Any = None) -> Any:
        weights = _solvers.alpha_fair(gramian, 1.0, present)
        if self.max_norm is None:
            return weights
        lengths, cosines, _ = _cosines.norms_and_cosines(gramian, present)
        parts = weights * lengths
        square = ops.sum(cosines * parts[:, None] * parts[None, :])
        norm = ops.sqrt(ops.maximum(square, 0.0))
        return weights * (self.max_norm / ops.maximum(norm, self.max_norm))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_norm": self.max_norm}
