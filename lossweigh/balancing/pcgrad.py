"""Yu et al.: projecting conflicting gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh._backend import float32_product
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer, StepStatistics
from lossweigh.balancing.levels import Parameters


@keras.saving.register_keras_serializable(package="lossweigh")
class PCGrad(Balancer):
    """Gradient surgery: takes from each gradient what conflicts with another.

        g_i' = g_i,  then for each j != i in random order:
            if g_i' . g_j < 0:  g_i' = g_i' - (g_i' . g_j / ||g_j||^2) g_j
        sum_i g_i'

    with `g_k` the gradient of branch k. The projection is against the original
    `g_j`, so `g_i'` stays a combination of the gradients, and their products suffice:
    the K x K Gramian.

    `w_k >= 1`, all 1 where nothing conflicts: the weights sum to K or more, the
    learning rate of a plain sum of losses. A gradient of 0 has the weight 1 and
    conflicts with none; identical gradients keep 1 each; opposite ones cancel each
    other: 2 each for the same length. For K = 1 the weight is 1.

    The order is drawn anew for each branch in each step. `solve`, without an
    order, goes through the branches as they are listed.

    It acts on conflicts alone. At the representation most pairs of gradients are nearly
    orthogonal, so it does almost nothing there. So its default `level` is
    `Parameters(update_every=10)`: the paper's, except that it keeps its weights for ten
    steps.

    Args:
        level: As for `Balancer`.
        seed: As for `Balancer`.
        branches: As for `Balancer`.

    Examples:
        >>> from keras import ops
        >>> weights = PCGrad().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [2.222 1.579]

    Reference:
        T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn. Gradient surgery
        for multi-task learning. NeurIPS 2020.
    """

    needs_draws = True
    default_level = Parameters(update_every=10)

    def solve(self, gramian: Any, present: Any = None, order: Any = None) -> Any:
        """See `Balancer.solve`.

        Args:
            gramian: `(K, K)`.
            present: `(K,)` bool, or `None` for all.
            order: `(K, K)` int: row i lists the branches as `g_i` meets them
                (itself among them, which changes nothing). Default: as listed.
        """
        lengths, cosines, _ = _cosines.norms_and_cosines(gramian, present)
        num = cosines.shape[0]
        unit = ops.eye(num, dtype="float32")
        # For every i at once, in units of ||g_i||, with unit vectors for the others:
        # products[i, j] = g_i' . g_j.
        products = cosines
        taken = ops.zeros_like(cosines)
        for chosen in _cosines.visiting_order(order, unit):
            product = ops.sum(products * chosen, axis=-1, keepdims=True)
            taken_now = ops.relu(-product) * chosen
            taken = taken + taken_now
            products = products + float32_product(taken_now, cosines)
        # Two steps, so that no product of far-off lengths stands alone.
        added = ops.sum(taken * (lengths[:, None] / lengths[None, :]), axis=0)
        return (1.0 + added) * _cosines.presence(present, num)

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        order = ops.argsort(statistics.draws, axis=-1)
        return self.solve(statistics.gramian, statistics.present, order), state
