"""Liu, Chu & Thuerey: conflict-free training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class ConFIG(Balancer):
    """The direction with the same cosine to every gradient.

        u = pinv(U) 1,    d = (sum_k g_k . u / ||u||) u / ||u||

    with `U` the gradients divided by their lengths, one a row, `pinv` the
    pseudo-inverse and `1` a vector of ones: the direction on which all unit
    gradients project alike, as long as what all gradients project on it. As `u` is
    a combination of the unit gradients, `u = U' b` with `b = pinv(U U') 1`, the
    cosines are enough to find it.

    The weights sum to no fixed number; a gradient's weight is inverse to its
    length, and the combined gradient is as long as the sum of the gradients at
    most: for orthogonal ones of one length the weights are 1. A gradient of 0 has
    the weight 0. Identical gradients keep 1 each. Where no direction projects
    alike on all (opposite gradients, more branches than dimensions) it is the
    nearest in the sense of least squares; if that is 0 the shared layers are not
    updated in this step. Eigenvalues of the cosines that float32 can't tell from 0 (3
    millionths of the largest) count as 0. For K = 1 the weight is 1.

    The paper's momentum form, M-ConFIG, isn't here. It differentiates one branch a
    step and keeps a running mean of each branch's whole gradient. In a training model
    each step has all branches in one backward pass, which gives all gradients, and a
    balancer keeps some numbers a branch, not a gradient.

    Args:
        level: As for `Balancer`.
        seed: As for `Balancer`.
        branches: As for `Balancer`.

    Examples:
        >>> from keras import ops
        >>> weights = ConFIG().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(2))
        [1.23 0.84]

    Reference:
        Q. Liu, M. Chu, N. Thuerey. ConFIG: towards conflict-free training of
        physics informed neural networks. ICLR 2025.
    """

    def solve(self, gramian: Any, present: Any = None) -> Any:
        lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
        values, vectors, kept = _cosines.spectrum(cosines)
        count = ops.cast(nonzero, "float32")
        parts = _cosines.apply_spectral(vectors, _cosines.inverted(values, kept), count)
        alike = ops.sum(cosines * parts[None, :], axis=-1)
        square = ops.sum(parts * alike)
        # Of the order of 1 where there is such a direction.
        exists = square > 1e-6
        factor = ops.sum(alike * lengths * count) / ops.where(exists, square, 1.0)
        return ops.where(exists & nonzero, factor / lengths * parts, 0.0)
