"""Chen et al.: gradient sign dropout."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh.balancing.base import Balancer
from lossweigh.balancing.site import Site


@keras.saving.register_keras_serializable(package="lossweigh")
class GradDrop(Balancer):
    """Where branches disagree about the sign of a gradient element, one sign wins.

        P = (1 + sum_k g_k / sum_k |g_k|) / 2                        by element
        d = sum_k g_k [g_k > 0]  where U < P,   sum_k g_k [g_k < 0]  elsewhere

    with `g_k` the gradient of branch k at the shared representation and `U` a
    uniform random number for each element, drawn anew in each step. The purer the
    sign of an element (`P` near 0 or 1), the surer it passes whole.

    It has no weights, so `loss_weights` are 1 and `solve` gives ones; elements that
    all branches agree on are summed as in plain training. It can't work from a
    Gramian and has no other level than the representation, at which the paper has
    it too. One branch: plain training. A branch without a gradient, or with one
    that isn't finite, has no vote.

    The paper may also multiply by the sign of the activations and sum over the
    batch before it compares signs (one sign for a feature); this is its form
    without, one sign for each element of each sample, and its leak is 0.

    On several devices each draws for its own rows, so that the numbers aren't those of
    one device.

    Args:
        level: A `Representation`, the only level that this method has.
        seed: Optional int, makes the draws reproducible (within a backend).
        branches: As for `Balancer`.

    Raises:
        ValueError: If `level` is another.

    Examples:
        >>> from keras import ops
        >>> print(ops.convert_to_numpy(GradDrop().solve(ops.eye(2))))
        [1. 1.]

    Reference:
        Z. Chen, J. Ngiam, Y. Huang, T. Luong, H. Kretzschmar, Y. Chai, D. Anguelov.
        Just pick a sign: optimizing deep multitask models with gradient sign
        dropout. NeurIPS 2020, arXiv:2010.06808.
    """

    needs_angles = False
    needs_noise = True

    def solve(self, gramian: Any, present: Any = None) -> Any:
        return ops.ones((gramian.shape[0],), dtype="float32")

    def combine(self, site: Site, weights: Any, noise: Any = None) -> Any:
        total, length = site.sums()
        positive, negative = 0.5 * (total + length), 0.5 * (total - length)
        # `noise < positive / length`, without a division by 0.
        return ops.where(noise * length < positive, positive, negative)
