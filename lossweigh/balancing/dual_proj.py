"""Lopez-Paz & Ranzato: the mean gradient, projected to where nothing conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lossweigh import _check
from lossweigh.balancing import _cosines, _solvers
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class DualProj(Balancer):
    """The nearest to the mean gradient along which no loss rises.

        w = argmin { v' (G + e tr(G) I) v : v >= p }

    with `G` the Gramian of the gradients, `p` the preferences and `e` the ridge:
    the projection of `sum_k p_k g_k` onto the directions that have no negative
    product with any branch's gradient. It is the rule of GEM (which protects the
    tasks of the past) with every branch protected.

    `w_k >= p_k`, with equality where the mean conflicts with no branch: then the
    weights sum to 1 by default, else to more. A gradient of 0 has its preference
    as its weight and no influence; identical gradients share the weight in proportion
    to their preferences; opposite ones cancel out, finite through the ridge. For K = 1
    the weight is 1.

    The ridge is relative to the trace: a gradient shorter than about
    `sqrt(ridge)` of the longest isn't protected. Where lengths differ by more
    than 100, lower it.

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
        >>> weights = DualProj().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.611 0.5  ]

    Reference:
        D. Lopez-Paz, M. Ranzato. Gradient episodic memory for continual learning.
        NeurIPS 2017.
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
        shares = _cosines.share_preferences(
            self.in_order("preferences"), gramian.shape[0], present
        )
        return _solvers.project_weights(gramian, shares[None, :], present, self.ridge)[
            0
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "preferences": self.preferences,
            "ridge": self.ridge,
        }
