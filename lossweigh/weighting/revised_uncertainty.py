"""Liebel & Koerner: uncertainty weighting, with a regulariser that isn't negative."""

from __future__ import annotations

import keras
from keras import ops

from lossweigh._types import Tensor
from lossweigh.weighting.learned import LearnedWeighter


@keras.saving.register_keras_serializable(package="lossweigh")
class RevisedUncertainty(LearnedWeighter):
    """Uncertainty weighting with a total that is never negative.

        total = sum_k 0.5 L_k / c_k^2 + log(1 + c_k^2)

    with `L_k` the loss of branch k and `c_k` its learned scale, `c_k = 1` at the
    start. `log(1 + c^2)` takes the place of `Uncertainty`'s `log c`, which is
    negative for `c < 1`. The weights `0.5 / c_k^2` sum to no fixed number. A
    branch loss must be positive; an exact 0 counts as absent.

    Unlike `Uncertainty` it isn't free of scale: at the optimum `c_k^2` is about
    `L_k / 2` for a large loss, and about `sqrt(L_k / 2)` for a small one.

    Differs from the paper: the parameter is `log c_k^2`, so that `c_k` can't
    reach 0, and it has a learning rate of its own (see `LearnedWeighter`).

    Args:
        learning_rate: Float greater than 0, the parameters' learning rate.
        **kwargs: Passed to `keras.layers.Layer`.

    Examples:
        >>> from keras import ops
        >>> weighter = RevisedUncertainty()
        >>> total = weighter([ops.array([1.0]), ops.array([2.0]), ops.array([4.0])])
        >>> print(ops.convert_to_numpy(total).round(4))
        [5.5794]

    Reference:
        L. Liebel, M. Koerner. Auxiliary tasks in multi-task learning.
        arXiv:1805.06334, 2018.
    """

    needs_positive_losses = True

    def weights_of(self, parameters: Tensor) -> Tensor:
        return 0.5 * ops.exp(-parameters)

    def regularizers(self, parameters: Tensor, means: Tensor) -> Tensor:
        return ops.softplus(parameters)

    def gradient(self, parameters: Tensor, means: Tensor) -> Tensor:
        return ops.sigmoid(parameters) - self.weights_of(parameters) * means
