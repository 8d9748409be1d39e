"""Liu et al.: every branch's weighted loss brought to 1 (IMTL-L)."""

from __future__ import annotations

import keras
from keras import ops

from lossweigh._types import Tensor
from lossweigh.weighting.learned import LearnedWeighter


@keras.saving.register_keras_serializable(package="lossweigh")
class IMTLL(LearnedWeighter):
    """IMTL-L: learned weights that bring every weighted loss to the same size.

        total = sum_k exp(s_k) L_k - s_k

    with `L_k` the loss of branch k and `s_k` learned from 0. At the optimum
    `exp(s_k) = 1 / L_k`, whatever the scale of the loss. It is `Uncertainty`
    with the same term for every branch, without its halves.

    The weights `exp(s_k)` sum to no fixed number. The total may become negative. A
    branch loss must be positive; an exact 0 counts as absent.

    Differs from the paper: `s` has a learning rate of its own (see
    `LearnedWeighter`).

    Args:
        learning_rate: Float greater than 0, the learning rate of `s`.
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = IMTLL()
        >>> total = weighter([ops.array([1.0]), ops.array([2.0]), ops.array([4.0])])
        >>> print(ops.convert_to_numpy(total))
        [7.]

    Reference:
        L. Liu, Y. Li, Z. Kuang, J.-H. Xue, Y. Chen, W. Yang, Q. Liao, W. Zhang.
        Towards impartial multi-task learning. ICLR 2021.
    """

    needs_positive_losses = True

    def weights_of(self, parameters: Tensor) -> Tensor:
        return ops.exp(parameters)

    def regularizers(self, parameters: Tensor, means: Tensor) -> Tensor:
        return -parameters

    def gradient(self, parameters: Tensor, means: Tensor) -> Tensor:
        return self.weights_of(parameters) * means - 1.0
