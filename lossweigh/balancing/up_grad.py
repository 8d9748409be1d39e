"""Quinton & Rey: the unconflicting projection of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines, _solvers
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class UPGrad(Balancer):
    """Projects each gradient to where no branch objects, and adds these up.

        w = sum_i argmin { v' (G + e tr(G) I) v : v >= p_i e_i }

    with `G` the Gramian of the gradients, `e_i` the i-th unit vector, `p_i` the
    preference of branch i and `e` the ridge. Each term is the projection of
    `p_i g_i` onto the directions along which, to first order, no loss rises. So
    the combined gradient never conflicts with that of a branch, and it is linear
    in the length of each gradient: a branch with small gradients has a small say.

    `w_k >= p_k`, with equality where nothing conflicts: then the weights sum to 1
    by default, the mean of the gradients, and to more the more conflict there is.
    A gradient of 0 has its preference as its weight and no influence; identical
    gradients share equally; opposite ones cancel out, finite through the ridge.
    For K = 1 the weight is 1.

    The ridge is relative to the trace, as in the authors' code: a gradient
    shorter than about `sqrt(ridge)` of the longest isn't protected from conflict.
    Where lengths differ by more than 100, lower it.

    Args:
        preferences: Numbers of at least 0, one a branch, in a list in the order of the
            branches or in a dict by branch name. Default:
            `1 / K` each. With a branch absent, the others are scaled to the sum.
        ridge: Float of at least 0, the part of the trace of the Gramian that is
            added to its diagonal.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> weights = UPGrad().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [1.111 0.789]

    Reference:
        P. Quinton, V. Rey. Jacobian descent for multi-objective optimization.
        arXiv:2406.16232, 2024.
    """

    per_branch = ("preferences",)

    def __init__(
        self,
        *,
        preferences: Sequence[float] | Mapping[str, float] | None = None,
        ridge: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preferences = _check.per_branch("preferences", preferences, _check.weights)
        self.ridge = _check.not_negative("ridge", ridge)

    def solve(self, gramian: Any, present: Any = None) -> Any:
        num = gramian.shape[0]
        preferences = self.in_order("preferences")
        shares = _cosines.share_preferences(preferences, num, present)
        lower_bounds = ops.eye(num, dtype="float32") * shares[None, :]
        return ops.sum(
            _solvers.project_weights(gramian, lower_bounds, present, self.ridge), axis=0
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "preferences": self.preferences,
            "ridge": self.ridge,
        }
