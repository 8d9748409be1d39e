"""Senushkin et al.: independent component alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class AlignedMTL(Balancer):
    """Aligned-MTL: makes the principal components of the gradients equally long.

        G = V diag(l) V',    w = sqrt(l_min) V diag(l^-1/2) V' p

    with `G` the Gramian of the gradients, `l` and `V` its eigenvalues and
    eigenvectors, `l_min` the smallest of them that isn't 0 and `p` the preferences.
    The combined gradient is the weighted sum of orthogonal gradients as long as the
    shortest component, so none dominates or conflicts.

    The weights sum to no fixed number, at most about `sqrt(K)` times the sum of
    the preferences and far less where components differ: orthogonal gradients of
    one length have the weights `p`. A gradient of 0 has the weight 0; if all are
    0 the weights are `p`. Identical gradients share equally. Near-collinear ones
    have a small component and so make the weights small, until float32 can't tell
    it from 0 (3 millionths of the largest) and it no longer counts: the weights
    jump there, and a gradient shorter than 1/600 of the longest has none. For K = 1
    the weight is the preference.

    Args:
        preferences: Numbers of at least 0, one a branch, in a list in the order of the
            branches or in a dict by branch name. Default:
            `1 / K` each. With a branch absent, the others are scaled to the sum.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If the preferences are no such list.

    Examples:
        >>> from keras import ops
        >>> weights = AlignedMTL().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.559 0.408]

    Reference:
        D. Senushkin, N. Patakin, A. Kuznetsov, A. Konushin. Independent component
        alignment for multi-task learning. CVPR 2023.
    """

    per_branch = ("preferences",)

    def __init__(
        self,
        *,
        preferences: Sequence[float] | Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preferences = _check.per_branch("preferences", preferences, _check.weights)

    def solve(self, gramian: Any, present: Any = None) -> Any:
        gramian = _cosines.masked(gramian, present)
        shares = _cosines.share_preferences(
            self.in_order("preferences"), gramian.shape[0], present
        )
        longest = ops.max(ops.diagonal(gramian))
        scaled = gramian / ops.where(longest > 0.0, longest, 1.0)
        values, vectors, kept = _cosines.spectrum(scaled)
        ratios = _cosines.smallest(values, kept) / ops.where(kept, values, 1.0)
        factors = ops.where(kept, ops.sqrt(ops.minimum(ratios, 1.0)), 0.0)
        weights = _cosines.apply_spectral(vectors, factors, shares)
        weights = weights * _cosines.presence(present, gramian.shape[0])
        return ops.where(longest > 0.0, weights, shares)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "preferences": self.preferences}
