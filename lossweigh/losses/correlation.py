"""Pearson's correlation over the time steps of each sequence."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Mask, Tensor
from lossweigh.branches import MaskedLoss
from lossweigh.branches.masking import per_sample
from lossweigh.losses import _series, _shapes

FORMS = ("scalar", "sequence", "repeated", "steps")


@keras.saving.register_keras_serializable(package="lossweigh")
class Correlation(MaskedLoss):
    """How much a sequence's shape over time differs from its target's: `1 - r`.

        r = sum_t w_t (y_t - my) (p_t - mp)
            / sqrt(sum_t w_t (y_t - my)^2 * sum_t w_t (p_t - mp)^2)

    with `y_t` and `p_t` target and prediction at step `t`, `w_t` the weight of the
    step, and `my` and `mp` the weighted means over the sequence's valid steps. The loss
    is 0 for the same shape at any level and scale, 1 without a correlation, and 2 for
    the opposite shape. Each channel has its own correlation. The sequence's loss is the
    mean over those of its channels that have a valid element. Level and scale don't
    count: for these add a squared error as a second branch of the output, or take
    `Concordance`.

    Four forms give the same loss with the same gradient:

    | `form` | `values` gives | |
    |---|---|---|
    | `"scalar"` | `()` | the mean over the sequences |
    | `"sequence"` | `(batch,)` | one number a sequence |
    | `"repeated"` | `(batch, time)` | that number at each step, padded ones too |
    | `"steps"` | `(batch, time)` | what each step adds to it, 0 at padded ones |

    `"steps"` is `1 - (y_t - my) (p_t - mp) / (sy sp)`, `sy` and `sp` the standard
    deviations: its mean over time is `1 - r`. With `n` valid steps out of `T` each is
    multiplied by `T / n`, so that the mean over all `T` is still `1 - r`. A
    `BranchLoss` refuses `"scalar"`, which has no sequences left to mask or weigh.

    A weight `(batch,)` is the sequence's. One of `(batch, time)` weighs the steps in
    `r`, and its mean over the valid steps weighs the sequence: weights that are
    constant over time are the sequence's.

    A sequence whose target or prediction is constant has no correlation: `r` counts as
    0, its loss is 1, and its gradient 0. A single valid step is a constant. A sequence
    without a valid step doesn't count. A correlation has no unit, so no fixed number
    separates a constant from small numbers. A sequence counts as constant if its
    standard deviation is below `epsilon` times its mean, which float32 can't tell from
    rounding, or below 1e-15.

    Args:
        form: `"sequence"`, `"scalar"`, `"repeated"` or `"steps"`.
        epsilon: Float of at least 0. A sequence is constant if its standard deviation
            is at most this times the size of its mean.
        name: Name of the loss.
        reduction: As in Keras. It doesn't act on the form `"scalar"`, which is a mean.

    Call arguments:
        y_true: Targets, of the prediction's shape.
        y_pred: `(batch, time)` or `(batch, time, channels)`; time may be unknown.

    Returns:
        `values` gives float32 of the form's shape. It can be differentiated once.

    Raises:
        ValueError: If an argument is out of range or shapes don't fit.

    Examples:
        >>> from keras import ops
        >>> loss = Correlation(form="steps")
        >>> y_true = ops.array([[1.0, 2.0, 3.0, 4.0]])
        >>> y_pred = ops.array([[5.0, 5.0, 7.0, 7.0]])
        >>> steps = loss.values(y_true, y_pred)
        >>> print(ops.convert_to_numpy(steps).round(3))
        [[-0.342  0.553  0.553 -0.342]]
        >>> print(ops.convert_to_numpy(loss(y_true, y_pred)).round(3))  # their mean
        0.106

    Reference:
        K. Pearson. Notes on regression and inheritance in the case of two parents.
        Proceedings of the Royal Society of London 58, 1895.
    """

    def __init__(
        self,
        *,
        form: str = "sequence",
        epsilon: float = 1e-6,
        name: str = "correlation",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.form = _check.one_of("form", form, FORMS)
        self.epsilon = _check.not_negative("epsilon", epsilon)

    def values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        y_true, y_pred = _shapes.target_and_output("Correlation", tensors)
        series = _series.check("Correlation", y_true, y_pred, valid, weight)
        if self.form == "steps":
            return self._steps(series)
        losses = series.of_samples(1.0 - self._correlation(series))
        if self.form == "scalar":
            valid = _shapes.valid_samples(valid)
            return ops.mean(per_sample(losses, valid, []))
        if self.form == "repeated":
            shape = ops.shape(series.y_pred)[:2]
            return ops.broadcast_to(ops.expand_dims(losses, 1), shape)
        return losses

    def sample_values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        if self.form == "scalar":
            return super().sample_values(*tensors, valid=valid, weight=weight)
        y_true, y_pred = _shapes.target_and_output("Correlation", tensors)
        series = _series.check("Correlation", y_true, y_pred, valid, weight)
        return series.of_samples(1.0 - self._correlation(series))

    def _correlation(self, series: _series.Series) -> Tensor:
        moments = _series.moments(series)
        per_true = self._inverse(moments.var_true, moments.mean_true)
        per_pred = self._inverse(moments.var_pred, moments.mean_pred)
        inverses = per_true * per_pred
        r = moments.cov * inverses
        return _series.with_gradient(
            ops.clip(r, -1.0, 1.0),
            series,
            moments,
            factors_true=(-r * per_true * per_true, inverses, 0.0),
            factors_pred=(inverses, -r * per_pred * per_pred, 0.0),
        )

    def _steps(self, series: _series.Series) -> Tensor:
        # Each step may have a gradient of its own, so these moments are differentiated.
        d_true, first_true, rest_true = _series.centered(series, series.y_true)
        d_pred, first_pred, rest_pred = _series.centered(series, series.y_pred)
        mean_true, mean_pred = first_true + rest_true, first_pred + rest_pred
        per_true = self._inverse(series.mean(ops.square(d_true)), mean_true[:, 0])
        per_pred = self._inverse(series.mean(ops.square(d_pred)), mean_pred[:, 0])
        parts = 1.0 - d_true * d_pred * ops.expand_dims(per_true * per_pred, 1)
        if series.step_weights is not None:
            number = ops.cast(ops.shape(parts)[1], parts.dtype)
            parts = parts * series.step_weights * number
        if series.channel_weights is None:
            return ops.mean(parts, axis=-1)
        return ops.sum(parts * ops.expand_dims(series.channel_weights, 1), axis=-1)

    def _inverse(self, variance: Tensor, mean: Tensor) -> Tensor:
        """One divided by the standard deviation; 0 for a constant."""
        varies = _series.varies(variance, mean, self.epsilon)
        return ops.where(varies, ops.rsqrt(ops.where(varies, variance, 1.0)), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "form": self.form, "epsilon": self.epsilon}
