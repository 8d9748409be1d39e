"""Ban & Ji: fair resource allocation between branches."""

from __future__ import annotations

from typing import Any

import keras

from lossweigh import _check
from lossweigh.balancing import _solvers
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class FairGrad(Balancer):
    """Alpha-fair gradients: the improvement of a step as a shared resource.

        G w = w^(-1/alpha),    w > 0

    with `G` the Gramian of the gradients and the power taken for each weight:
    the direction `d` that maximizes `sum_k (g_k . d)^(1 - alpha) / (1 - alpha)`
    over a ball. `alpha` 1 is proportional fairness, the Nash solution of `NashMTL`;
    2 minimizes the potential delay; towards infinity only the branch that improves
    least counts; towards 0 it is the plain sum of the gradients, if that conflicts
    with none. The weights are the minimum of a convex function, found by a damped
    Newton method to the precision of float32.

    The weights sum to no fixed number: for gradients `s` times as long they are
    `s^(-2 alpha / (1 + alpha))` of what they were, and the combined gradient
    `s^((1 - alpha) / (1 + alpha))` as long.

    A gradient of 0 has the weight 0, and the others are balanced without it.
    Identical gradients have equal weights. Opposite ones have no solution: the closer
    gradients come to that, the larger their weights; a ridge of 1e-5 on the cosines
    keeps them finite. For K = 1 the weight is `||g||^(-2 alpha / (1 + alpha))`.

    Differs from the authors' code: that one minimizes the squared residual with
    SciPy from equal weights, and can end where the equations aren't solved.

    Args:
        alpha: Float greater than 0. Float32 solves 0.1 to 10 well.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If `alpha` is out of range.

    Examples:
        >>> from keras import ops
        >>> balancer = FairGrad(alpha=2.0)
        >>> weights = balancer.solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(2))
        [0.47 0.32]

    Reference:
        H. Ban, K. Ji. Fair resource allocation in multi-task learning. ICML 2024.
    """

    def __init__(self, *, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = _check.positive("alpha", alpha)

    def solve(self, gramian: Any, present: Any = None) -> Any:
        return _solvers.alpha_fair(gramian, 1.0 / self.alpha, present)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}
