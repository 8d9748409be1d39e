"""Wang, Teng & Perdikaris: learning rate annealing for physics-informed networks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer, StepStatistics

_LARGEST = 1e6  # weight that is aimed at


@keras.saving.register_keras_serializable(package="lossweigh")
class LearningRateAnnealing(Balancer):
    """Brings every gradient to the size of a reference branch's, slowly.

        w_k <- m w_k + (1 - m) mean|g_r| / mean|g_k|,    w_r = 1

    with `g_k` the gradient of branch k, `g_r` the reference's (the residual of the
    differential equation, in the paper), `mean|g|` the mean absolute element and `m`
    the momentum. The weights start from 1.

    The weights sum to no fixed number; the reference has the weight 1 and so keeps
    its learning rate. A branch keeps its weight in a step in which its gradient is
    0 or it or the reference is absent. The quotient counts as 1e6 at most. For K = 1
    the weight is 1.

    `solve` is the first step; it sees no elements, and takes the lengths of the
    gradients, as good where the gradients are alike in shape.

    Differs from the paper, whose numerator is the largest absolute element of
    `g_r`: two means are steadier, and give equal gradients the weight 1.

    Args:
        reference: The name or the index of the reference branch.
        momentum: Float between 0 and 1, the weight of the past.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If an argument is out of range, or there is no branch with the name
            of the reference.

    Examples:
        >>> from keras import ops
        >>> balancer = LearningRateAnnealing(momentum=0.5)
        >>> weights = balancer.solve(ops.array([[4.0, 0.0], [0.0, 100.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [1.  0.6]

    Reference:
        S. Wang, Y. Teng, P. Perdikaris. Understanding and mitigating gradient flow
        pathologies in physics-informed neural networks. SIAM Journal on Scientific
        Computing 43, 2021.
    """

    needs_angles = False
    needs_mean_abs = True

    def __init__(
        self, *, reference: str | int = 0, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(reference, str):
            reference = _check.whole("reference", reference, at_least=0)
        self.reference = reference
        self.momentum = _check.between("momentum", momentum, 0.0, 1.0)

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        self._index(num_branches)
        return {"loss_weights": [1.0] * num_branches}

    def solve(self, gramian: Any, present: Any = None) -> Any:
        num = gramian.shape[0]
        lengths, _, nonzero = _cosines.norms_and_cosines(gramian, present)
        weights = self._follow(ops.ones((num,), dtype="float32"), lengths, nonzero)
        return weights * _cosines.presence(present, num)

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        sizes = statistics.mean_abs
        known = ops.logical_and(statistics.present, sizes > 0.0)
        weights = self._follow(state["loss_weights"], sizes, known)
        present = _cosines.presence(statistics.present, sizes.shape[0])
        return weights * present, {"loss_weights": weights}

    def _follow(self, weights: Any, sizes: Any, nonzero: Any) -> Any:
        """The next weights, for gradients of these sizes."""
        index = self._index(weights.shape[0])
        goals = ops.where(nonzero, sizes[index] / ops.where(nonzero, sizes, 1.0), 0.0)
        goals = ops.minimum(goals, _LARGEST)
        moved = ops.logical_and(nonzero, nonzero[index])
        return ops.where(
            moved, weights + (1.0 - self.momentum) * (goals - weights), weights
        )

    def _index(self, num_branches: int) -> int:
        if isinstance(self.reference, str):
            branches = self.branches or []
            _check.known_names("reference", [self.reference], branches)
            return branches.index(self.reference)
        if self.reference >= num_branches:
            raise ValueError(
                f"`reference` must be less than the number of branches, "
                f"{num_branches}. Received: reference={self.reference}. "
                "The first branch is 0."
            )
        return self.reference

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reference": self.reference,
            "momentum": self.momentum,
        }
