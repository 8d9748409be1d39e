"""Lin: the concordance correlation over the time steps of each sequence."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.branches import MaskedLoss
from lossweigh.losses import _series, _shapes


@keras.saving.register_keras_serializable(package="lossweigh")
class Concordance(MaskedLoss):
    """How far a sequence is from its target, relative to how much both vary.

        L = 1 - 2 cov(y, p) / (var(y) + var(p) + (my - mp)^2)

    with `y` and `p` target and prediction over the sequence's valid steps, `my` and
    `mp` their means, and variances and covariance divided by the number of steps, as
    in the paper. It is the mean squared error divided by what that error would be
    without any correlation: 0 where the two are equal, 1 without a correlation, at
    most 2. Unlike `Correlation`, it compares level and scale too. Each channel has its
    own concordance. The sequence's loss is the mean over those of its channels that
    have a valid element.

    A weight `(batch,)` is the sequence's. One of `(batch, time)` weighs the steps in
    all means, and its mean over the valid steps weighs the sequence: weights that are
    constant over time are the sequence's.

    If one of the two is constant, there is no covariance, and the loss is 1. If both
    are constant and equal, the loss and its gradient are 0. Equal means up to `epsilon`
    times the mean, which is float32's rounding. A sequence without a valid step doesn't
    count.

    Args:
        epsilon: Float of at least 0. Two sequences are equal if they differ by at most
            this times the size of the mean.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        y_true: Targets, of the prediction's shape.
        y_pred: `(batch, time)` or `(batch, time, channels)`; time may be unknown.

    Returns:
        `values` gives `(batch,)` float32. It can be differentiated once.

    Raises:
        ValueError: If an argument is out of range or shapes don't fit.

    Examples:
        >>> from keras import ops
        >>> loss = Concordance()
        >>> y_true = ops.array([[1.0, 2.0, 3.0]])
        >>> print(ops.convert_to_numpy(loss(y_true, y_true + 1.0)).round(3))
        0.429

    Reference:
        L. I.-K. Lin. A concordance correlation coefficient to evaluate
        reproducibility. Biometrics 45(1), 1989.
    """

    def __init__(
        self,
        *,
        epsilon: float = 1e-6,
        name: str = "concordance",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.epsilon = _check.not_negative("epsilon", epsilon)

    def values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        y_true, y_pred = _shapes.target_and_output("Concordance", tensors)
        series = _series.check("Concordance", y_true, y_pred, valid, weight)
        moments = _series.moments(series)
        whole = moments.var_true + moments.var_pred + ops.square(moments.gap)
        mean = ops.maximum(ops.abs(moments.mean_true), ops.abs(moments.mean_pred))
        differ = _series.varies(whole, mean, self.epsilon)
        per_whole = ops.where(differ, 2.0 / ops.where(differ, whole, 1.0), 0.0)
        c = ops.where(differ, ops.clip(moments.cov * per_whole, -1.0, 1.0), 1.0)
        down = -c * per_whole
        concordance = _series.with_gradient(
            c,
            series,
            moments,
            factors_true=(down, per_whole, down * moments.gap),
            factors_pred=(per_whole, down, -down * moments.gap),
        )
        return series.of_samples(1.0 - concordance)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
