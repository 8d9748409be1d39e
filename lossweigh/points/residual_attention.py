"""Anagnostopoulos et al.: residual-based attention (RBA)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Tensor
from lossweigh.points._point_losses import PointLosses
from lossweigh.points.base import PointWeights


@keras.saving.register_keras_serializable(package="lossweigh")
class ResidualAttention(PointWeights):
    """Residual-based attention: more weight where residuals have been large of late.

        a_i <- gamma a_i + eta |r_i| / max_j |r_j|
        loss = mean_i (a_i r_i)^2

    with `r_i` the residual of point i and `a_i` its attention, a constant in the
    gradient. The maximum is over the batch. `a_i` is moved before it weighs the loss,
    as in the authors' code, and stays between 0 and `eta / (1 - gamma)`.

    `|r_i|` is the square root of the point's loss, and the loss is multiplied by
    `a_i^2`. For a squared loss that is the formula. For any other loss of rows, such as
    a cross-entropy, the formula holds with `r_i^2` the loss. A loss below 0 counts
    as 0. So the method weighs hard examples of any data set.

    The weights don't sum to anything. With `initial=0`, as in the paper, the first
    losses are multiplied by about `eta^2`, and after many steps by up to
    `(eta / (1 - gamma))^2`, which is 100.

    Differs from the paper where a batch isn't the whole set: the maximum is that of
    the batch, and the `a_i` of the other points don't decay.

    Args:
        num_points: How many points there are.
        gamma: Float from 0 to less than 1, the decay.
        eta: Float greater than 0, the step. The authors' code has 0.001 too.
        initial: Float of at least 0, the first `a_i`.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from keras import ops
        >>> points = ResidualAttention(3)
        >>> squared_residuals = ops.array([0.25, 1.0, 4.0])
        >>> weighted = points([squared_residuals, ops.arange(3)], training=True)
        >>> print(ops.convert_to_numpy(points.attention).round(4))
        [0.0025 0.005  0.01  ]

    Reference:
        S. J. Anagnostopoulos, J. D. Toscano, N. Stergiopulos, G. E. Karniadakis.
        Residual-based attention in physics-informed neural networks. Computer Methods
        in Applied Mechanics and Engineering 421, 2024.
    """

    def __init__(
        self,
        num_points: int,
        *,
        gamma: float = 0.999,
        eta: float = 0.01,
        initial: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points, **kwargs)
        self.gamma = _check.between("gamma", gamma, 0.0, 1.0)
        if self.gamma == 1.0:
            raise ValueError(
                "`gamma` must be less than 1: attention that doesn't decay grows "
                "without bound. Received: gamma=1.0."
            )
        self.eta = _check.positive("eta", eta)
        self.initial = _check.not_negative("initial", initial)

    def add_states(self) -> None:
        self.attention = self.add_state("attention", (self.num_points,), self.initial)

    @property
    def loss_weights(self) -> Tensor:
        return ops.square(self.attention * 1.0)

    def weigh(self, batch: PointLosses) -> Tensor:
        residuals = ops.sqrt(ops.maximum(batch.losses, 0.0))
        largest = ops.max(residuals)
        relative = residuals / ops.where(largest > 0, largest, 1.0)
        old = self.attention * 1.0
        new = self.gamma * ops.take(old, batch.index) + self.eta * relative
        return ops.square(self.move(self.attention, old, new, batch))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "eta": self.eta,
            "initial": self.initial,
        }
