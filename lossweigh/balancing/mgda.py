"""Sener & Koltun: multi-task learning as multi-objective optimization."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines, _solvers
from lossweigh.balancing.base import Balancer, StepStatistics

NORMALIZATIONS = ("none", "l2", "loss")


@keras.saving.register_keras_serializable(package="lossweigh")
class MGDA(Balancer):
    """Multiple gradient descent: the shortest convex combination of gradients.

        w = argmin { ||sum_k a_k g_k / n_k|| : a_k >= 0, sum_k a_k = 1 }

    with `g_k` the gradient of branch k and `n_k` its normalizer: 1, `||g_k||` or
    the loss `L_k`. Without normalization the combined gradient reduces every loss,
    or is 0 where none can fall without another's rise. As in the authors' code the
    normalizers serve to find the weights alone; these weigh the gradients
    themselves.

    The weights sum to 1. A short gradient gets a large weight: without
    normalization the branch with the shortest gradients decides, and a gradient of
    0 (of a branch that counts as present) takes all the weight and stops the
    shared layers; with `"l2"` and `"loss"` too. Identical gradients share equally.
    Opposite ones cancel out. For K = 1 the weight is 1.

    Differs from the authors' code: the problem is solved exactly, not by
    Frank-Wolfe steps, and `n_k` is an argument of the method, not of the
    experiment.

    Args:
        normalization: `"none"`, `"l2"` or `"loss"`. `"loss"` needs positive
            losses (another counts as 1); `solve`, which sees no losses, takes all
            of them for 1.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If the normalization is none of the three.

    Examples:
        >>> from keras import ops
        >>> weights = MGDA().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.6 0.4]

    Reference:
        O. Sener, V. Koltun. Multi-task learning as multi-objective optimization.
        NeurIPS 2018. J.-A. Desideri. Multiple-gradient descent algorithm (MGDA)
        for multiobjective optimization. Comptes Rendus Mathematique 350, 2012.
    """

    def __init__(self, *, normalization: str = "none", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalization = _check.one_of(
            "normalization", normalization, NORMALIZATIONS
        )

    def solve(self, gramian: Any, present: Any = None) -> Any:
        if self.normalization == "l2":
            gramian = _cosines.norms_and_cosines(gramian, present)[1]
        return _solvers.min_norm(gramian, present)

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        gramian = statistics.gramian
        if self.normalization == "loss":
            losses = ops.where(statistics.losses > 0.0, statistics.losses, 1.0)
            # To the largest, so that small losses don't leave float32's range.
            losses = losses / _cosines.largest(losses, statistics.present)
            gramian = gramian / losses[:, None] / losses[None, :]
        return self.solve(gramian, statistics.present), state

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalization": self.normalization}
