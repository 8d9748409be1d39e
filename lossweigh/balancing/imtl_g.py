"""Liu et al.: impartial multi-task learning, the gradient part."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer


@keras.saving.register_keras_serializable(package="lossweigh")
class IMTLG(Balancer):
    """IMTL-G: the combined gradient has the same projection on every gradient.

        v = pinv(G) d,    w = v / sum_k v_k

    with `G` the Gramian of the gradients, `d_k = ||g_k||` the square roots of its
    diagonal and `pinv` the pseudo-inverse. Then `(sum_j w_j g_j) . g_k / d_k` is
    the same for every branch k. Together with the loss-level `IMTLL` it is the
    paper's IMTL.

    The weights sum to 1, and some may be negative. A gradient of 0 has the weight
    0. Identical gradients share equally. Where no direction projects equally on
    all (opposite gradients, more branches than dimensions) it is the nearest in the
    sense of least squares; where `v` sums to 0 all weights are 0 and the shared layers
    are not updated in this step. Near-collinear gradients of unequal branches get large
    weights of both signs; eigenvalues that float32 can't tell from 0 (3 millionths of
    the largest) count as 0. For K = 1 the weight is 1.

    Differs from the paper, which solves for K - 1 weights with an inverse: the
    pseudo-inverse gives the same where that exists, and is defined where it
    doesn't (Quinton & Rey 2024).

    Args:
        level: As for `Balancer`.
        seed: As for `Balancer`.
        branches: As for `Balancer`.

    Examples:
        >>> from keras import ops
        >>> weights = IMTLG().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [0.592 0.408]

    Reference:
        L. Liu, Y. Li, Z. Kuang, J.-H. Xue, Y. Chen, W. Yang, Q. Liao, W. Zhang.
        Towards impartial multi-task learning. ICLR 2021.
    """

    def solve(self, gramian: Any, present: Any = None) -> Any:
        lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
        count = ops.cast(nonzero, "float32")
        relative = lengths / _cosines.largest(lengths, nonzero) * count
        products = relative[:, None] * cosines * relative[None, :]
        # G = D C D: where C has full rank pinv(G) d = D^-1 C^-1 1, which is exact
        # for lengths that are far apart too. Else it must be pinv(G) itself.
        values, vectors, kept = _cosines.spectrum(ops.stack([cosines, products]))
        sides = ops.stack([count, relative])
        solutions = _cosines.apply_spectral(
            vectors, _cosines.inverted(values, kept), sides
        )
        shares = ops.where(nonzero, _cosines.smallest(lengths, nonzero) / lengths, 0.0)
        regular = ops.sum(ops.cast(kept[0], "float32")) == ops.sum(count)
        weights = ops.where(regular, solutions[0] * shares, solutions[1] * count)
        total = ops.sum(weights)
        exists = ops.abs(total) > 1e-6 * ops.sum(ops.abs(weights))
        return ops.where(exists, weights / ops.where(exists, total, 1.0), 0.0)
