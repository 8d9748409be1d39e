"""Wang et al.: gradient vaccine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._backend import float32_product
from lossweigh.balancing import _cosines
from lossweigh.balancing.base import Balancer, StepStatistics
from lossweigh.balancing.levels import Parameters

_HIGHEST = 0.999  # cosine that is asked for


@keras.saving.register_keras_serializable(package="lossweigh")
class GradVac(Balancer):
    """Gradient vaccine: brings gradients to the cosines that they usually have.

        g_i' = g_i,  then for each j != i in random order:
            c = cos(g_i', g_j)
            if c < f_ij:
                g_i' = g_i' + ||g_i'|| (f_ij sqrt(1 - c^2) - c sqrt(1 - f_ij^2))
                              / (||g_j|| sqrt(1 - f_ij^2)) g_j
            f_ij = m f_ij + (1 - m) c
        sum_i g_i'

    with `g_k` the gradient of branch k, `f` the moving averages of the cosines, 0 at
    first, `m` the momentum: where `f_ij = 0` it is PCGrad, where the branches
    usually agree it asks them to agree as much as usual.

    `w_k >= 1`, all 1 where the cosines are at least the usual ones: the weights sum
    to K or more, the learning rate of a plain sum. A gradient of 0 has the weight
    1, changes no other and moves no average; identical gradients keep 1 each;
    opposite ones cancel out in the first step. For K = 1 the weight is 1.

    `solve` is the first step, with the branches in the order in which they are
    listed.

    Differs from the paper: the momentum is 0.5 (the paper's `1 - beta`, 0.99, hardly
    moves in a short training), one group of parameters (what the branches share), and
    it asks for no cosine above 0.999 (the step grows without bound towards 1).

    It acts on cosines alone, and at the representation these are all near 0. So its
    default `level` is `Parameters(update_every=10)`: the paper's, except that it keeps
    its weights for ten steps.

    Args:
        momentum: Float between 0 and 1, the weight of the past in the averages.
        **kwargs: Passed to `Balancer`.

    Raises:
        ValueError: If `momentum` is out of range.

    Examples:
        >>> from keras import ops
        >>> weights = GradVac().solve(ops.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(ops.convert_to_numpy(weights).round(3))
        [2.222 1.579]

    Reference:
        Z. Wang, Y. Tsvetkov, O. Firat, Y. Cao. Gradient vaccine: investigating and
        improving multi-task optimization in massively multilingual models. ICLR
        2021.
    """

    needs_draws = True
    default_level = Parameters(update_every=10)

    def __init__(self, *, momentum: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = _check.between("momentum", momentum, 0.0, 1.0)

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        return {"average_cosines": [[0.0] * num_branches] * num_branches}

    def solve(self, gramian: Any, present: Any = None) -> Any:
        num = gramian.shape[0]
        averages = ops.zeros((num, num), dtype="float32")
        return self._vaccinate(gramian, present, averages, None)[0]

    def advance(
        self, statistics: StepStatistics, state: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        order = ops.argsort(statistics.draws, axis=-1)
        weights, averages = self._vaccinate(
            statistics.gramian, statistics.present, state["average_cosines"], order
        )
        return weights, {"average_cosines": averages}

    def _vaccinate(
        self, gramian: Any, present: Any, averages: Any, order: Any
    ) -> tuple[Any, Any]:
        """The weights and the next averages, `(K, K)`."""
        lengths, cosines, nonzero = _cosines.norms_and_cosines(gramian, present)
        num = cosines.shape[0]
        unit = ops.eye(num, dtype="float32")
        pairs = ops.cast(nonzero[:, None] & nonzero[None, :], "float32") * (1.0 - unit)
        asked = ops.clip(averages, -_HIGHEST, _HIGHEST)
        asked = ops.stack([asked, asked / ops.sqrt(1.0 - asked * asked)])
        # For every i at once, in units of ||g_i||, with unit vectors for the others:
        # products[i, j] = g_i' . g_j, square[i] = ||g_i'||^2.
        products = cosines
        square = ops.ones((num, 1), dtype="float32")
        taken = ops.zeros_like(cosines)
        met = ops.zeros_like(cosines)
        for chosen in _cosines.visiting_order(order, unit):
            chosen = chosen * pairs
            wanted = ops.sum(asked * chosen, axis=-1, keepdims=True)
            product = ops.sum(products * chosen, axis=-1, keepdims=True)
            length = ops.sqrt(square)
            cosine = ops.clip(product / length, -1.0, 1.0)
            step = length * (wanted[1] * ops.sqrt(1.0 - cosine * cosine) - cosine)
            step = ops.where(cosine < wanted[0], step, 0.0)
            move = step * chosen
            taken = taken + move
            products = products + float32_product(move, cosines)
            # Rounding must not make a length of 0.
            square = ops.maximum(square + step * (2.0 * product + step), 1e-6)
            met = met + cosine * chosen
        met = averages + (1.0 - self.momentum) * (met - averages) * pairs
        added = ops.sum(taken * (lengths[:, None] / lengths[None, :]), axis=0)
        return (1.0 + added) * _cosines.presence(present, num), met

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}
