"""Sequences of numbers: masked, weighted, and their moments over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from lossweigh._backend import custom_gradient
from lossweigh._types import Mask, Tensor
from lossweigh.branches.masking import divide, match_rank
from lossweigh.losses import _shapes

# The square of this variance's inverse still fits into float32.
_NO_VARIANCE = 1e-30


class Series(NamedTuple):
    """Targets and predictions, checked.

    Attributes:
        y_true: `(batch, time, channels)`, 0 where it doesn't count.
        y_pred: Likewise.
        step_weights: How much each step counts in a mean over time; they sum to 1.
            `(batch, time, 1)` or one for each channel. `None` if all count alike.
        channel_weights: How much each channel's loss counts in the sample's,
            `(batch, channels)`. `None` if the sample's loss is the mean.
    """

    y_true: Tensor
    y_pred: Tensor
    step_weights: Tensor
    channel_weights: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """The mean over time, `(batch, channels)`."""
        if self.step_weights is None:
            return ops.mean(values, axis=1)
        return ops.sum(values * self.step_weights, axis=1)

    def of_samples(self, values: Tensor) -> Tensor:
        """The samples' losses, from those of the channels, `(batch, channels)`."""
        if self.channel_weights is None:
            return ops.mean(values, axis=-1)
        return ops.sum(values * self.channel_weights, axis=-1)


def check(
    loss: str, y_true: Tensor, y_pred: Tensor, valid: Mask, weight: Tensor
) -> Series:
    """Checks the arguments of `MaskedLoss.values` and gives them three axes.

    Args:
        loss: Name of the loss, for errors.
        y_true: Of the prediction's shape; either may lack a last axis of size 1.
        y_pred: `(batch, time)` or `(batch, time, channels)`.
        valid: As for `MaskedLoss.values`.
        weight: As for `MaskedLoss.values`.

    Raises:
        ValueError: If the shapes don't fit.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_pred.dtype)):
        y_pred = ops.cast(y_pred, "float32")
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    shape, received = tuple(y_pred.shape), tuple(y_true.shape)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{loss} needs an output with time steps, (batch, time) or (batch, time, "
            f"channels). Received a prediction of shape {shape}."
        )
    y_true, y_pred = match_rank(y_true, 3, _keep), match_rank(y_pred, 3, _keep)
    if len(received) < 2 or not _shapes.fits(tuple(y_true.shape), tuple(y_pred.shape)):
        raise ValueError(
            f"{loss} needs a target of the prediction's shape, {shape}. Received a "
            f"target of shape {received}."
        )
    counts = _mask_or_weight(loss, "mask", valid, y_pred, shape)
    weight = _mask_or_weight(loss, "sample_weight", weight, y_pred, shape)
    if counts is None and weight is None:
        return Series(y_true, y_pred, None, None)

    size = tuple(ops.shape(y_pred))
    share = ops.ones_like(y_pred[:, 0])
    if counts is not None:
        counts = ops.broadcast_to(counts, (*size[:2], counts.shape[2] or size[2]))
        number = ops.sum(counts, axis=1)
        share = share * ops.cast(number > 0, share.dtype)
    share = divide(share, ops.sum(share, axis=-1, keepdims=True))
    if weight is not None and weight.shape[1] == 1:
        share = share * weight[:, 0]
    elif weight is not None:
        weight = ops.broadcast_to(weight, (*size[:2], weight.shape[2] or size[2]))
        if counts is None:
            share, counts = share * ops.mean(weight, axis=1), weight
        else:
            counts = ops.where(counts > 0, weight, 0.0)
            share = share * divide(ops.sum(counts, axis=1), number)
    if counts is None:
        return Series(y_true, y_pred, None, share)
    counted = ops.not_equal(counts, 0.0)
    y_true, y_pred = (ops.where(counted, tensor, 0.0) for tensor in (y_true, y_pred))
    steps = divide(counts, ops.sum(counts, axis=1, keepdims=True))
    return Series(y_true, y_pred, steps, share)


def centered(series: Series, tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A tensor less its means over time, and the two parts of these means.

    The first step is subtracted before the mean is taken, so equal values give 0.

    Returns:
        The centred tensor; then `(batch, 1, channels)` each, the value of the first
        step that counts, and the mean of what was left.
    """
    first = ops.stop_gradient(_first_step(series, tensor))
    rest = tensor - first
    mean = ops.expand_dims(series.mean(rest), 1)
    return rest - mean, first, mean


def _first_step(series: Series, tensor: Tensor) -> Tensor:
    """Each channel's first value that counts, `(batch, 1, channels)`."""
    if series.step_weights is None:
        return tensor[:, :1]
    counts = ops.cast(ops.not_equal(series.step_weights, 0.0), "int32")
    index = ops.expand_dims(ops.argmax(counts, axis=1), 1)
    index = ops.broadcast_to(index, ops.shape(tensor[:, :1]))
    return ops.take_along_axis(tensor, index, axis=1)


class Moments(NamedTuple):
    """Moments over time; no gradient flows through them.

    Attributes:
        centered_true: `(batch, time, channels)`, the targets less their means.
        centered_pred: Likewise.
        mean_true: `(batch, channels)`, as all that follow.
        mean_pred: Likewise.
        gap: `mean_true - mean_pred`, with more digits than these two have left.
        var_true: Divided by the number of steps; exactly 0 for equal values.
        var_pred: Likewise.
        cov: The covariance, likewise.
    """

    centered_true: Tensor
    centered_pred: Tensor
    mean_true: Tensor
    mean_pred: Tensor
    gap: Tensor
    var_true: Tensor
    var_pred: Tensor
    cov: Tensor


def moments(series: Series) -> Moments:
    """The moments of the sequences."""
    d_true, first_true, rest_true = centered(series, ops.stop_gradient(series.y_true))
    d_pred, first_pred, rest_pred = centered(series, ops.stop_gradient(series.y_pred))
    return Moments(
        centered_true=d_true,
        centered_pred=d_pred,
        mean_true=(first_true + rest_true)[:, 0],
        mean_pred=(first_pred + rest_pred)[:, 0],
        gap=((first_true - first_pred) + (rest_true - rest_pred))[:, 0],
        var_true=series.mean(d_true * d_true),
        var_pred=series.mean(d_pred * d_pred),
        cov=series.mean(d_true * d_pred),
    )


def varies(variance: Tensor, mean: Tensor, epsilon: float) -> Tensor:
    """Where a variance is more than rounding: bool.

    Args:
        variance: Any tensor.
        mean: The values' mean.
        epsilon: A standard deviation is at least this, relative to the mean.
    """
    return variance > epsilon**2 * mean * mean + _NO_VARIANCE


def with_gradient(
    value: Tensor,
    series: Series,
    moments: Moments,
    factors_true: tuple[Any, Any, Any],
    factors_pred: tuple[Any, Any, Any],
) -> Tensor:
    """A function of the moments, with a gradient in closed form.

    The gradient of each moment at step `t` is a multiple of `y_t - mean(y)`, a
    multiple of `p_t - mean(p)` or a constant. That of `value` is the sum of the three.

    Args:
        value: `(batch, channels)`.
        series: The sequences.
        moments: Their moments.
        factors_true: The targets' gradient, `(batch, channels)` each: the factors of
            `y_t - mean(y)` and of `p_t - mean(p)`, and the constant.
        factors_pred: Likewise, for the predictions' gradient.

    Returns:
        The value; it can be differentiated once.
    """
    time = ops.cast(ops.shape(series.y_pred)[1], value.dtype)
    number = time if series.step_weights is None else 1.0

    def zero(factors: tuple[Any, Any, Any]) -> Callable[..., Any]:
        def function(_: Tensor) -> Any:
            def gradient(upstream: Tensor) -> Tensor:
                a, b, c = (ops.expand_dims(upstream / number * f, 1) for f in factors)
                total = a * moments.centered_true + (b * moments.centered_pred + c)
                weights = series.step_weights
                return (total if weights is None else total * weights,)

            return (ops.zeros_like(value),), gradient

        return function

    # One for each, so that a gradient which nobody asks for costs nothing.
    (of_true,) = custom_gradient(zero(factors_true), [series.y_true])
    (of_pred,) = custom_gradient(zero(factors_pred), [series.y_pred])
    return value + of_true + of_pred


def _keep(tensor: Tensor, axis: Any) -> Tensor:
    return tensor


def _mask_or_weight(
    loss: str, name: str, tensor: Tensor, y_pred: Tensor, shape: tuple[Any, ...]
) -> Tensor:
    """A mask or weight as float with three axes, `None` if there is none."""
    if tensor is None:
        return None
    tensor = ops.convert_to_tensor(tensor)
    received = tuple(tensor.shape)
    if not 1 <= len(received) <= len(shape) or not all(
        a is None or b is None or a == b or (a == 1 and name != "mask")
        for a, b in zip(received, shape, strict=False)
    ):
        raise ValueError(
            f"The {name} of {loss} must have the shape (batch,) or a leading part of "
            f"the prediction's, {shape}. Received: {name} of shape {received}."
        )
    return match_rank(ops.cast(tensor, y_pred.dtype), 3, ops.mean)
