"""Sequences of numbers: their means, variances and covariance over time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from lossweigh.autodiff import custom_gradient
from lossweigh.branches.elements import divide, per_sample, to_rank
from lossweigh.losses import _shapes

# Where a variance's inverse, squared, still fits into float32.
_NO_VARIANCE = 1e-30
# Numbers side by side that a processor adds up at once, and the first steps, whose
# mean is near that of all: within `sqrt(T / 64)` standard deviations, at worst.
_LANES, _FIRST = 128, 64


class Series(NamedTuple):
    """Targets and predictions, checked.

    Attributes:
        y_true: `(batch, time, channels)`, 0 where it doesn't count.
        y_pred: Likewise.
        steps: What each step counts in a mean over time, of which the sum is 1:
            `(batch, time, 1)` or of all channels. `None` if all count alike.
        share: What each channel's loss counts in the sample's, `(batch, channels)`;
            `None` if the sample's is the mean.
    """

    y_true: Any
    y_pred: Any
    steps: Any
    share: Any

    def mean(self, values: Any) -> Any:
        """The mean over time, `(batch, channels)`."""
        if self.steps is None:
            return ops.mean(values, axis=1)
        return ops.sum(values * self.steps, axis=1)

    def of_samples(self, values: Any) -> Any:
        """Losses of the channels, `(batch, channels)`, to those of the samples."""
        if self.share is None:
            return ops.mean(values, axis=-1)
        return ops.sum(values * self.share, axis=-1)


def series(loss: str, y_true: Any, y_pred: Any, valid: Any, weight: Any) -> Series:
    """What `MaskedLoss.values` was given, checked and in line.

    Args:
        loss: Name of the loss, for errors.
        y_true: Of the prediction's shape; either may lack a last axis of size 1.
        y_pred: `(batch, time)` or `(batch, time, channels)`.
        valid: As for `MaskedLoss.values`.
        weight: As for `MaskedLoss.values`.

    Raises:
        ValueError: If the shapes don't fit.
    """
    if isinstance(y_pred, (list, tuple)):
        _shapes.one_output(loss, [tensor.shape for tensor in y_pred])
    y_pred = ops.convert_to_tensor(y_pred)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_pred.dtype)):
        y_pred = ops.cast(y_pred, "float32")
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    shape, received = tuple(y_pred.shape), tuple(y_true.shape)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{loss} is of an output with time steps, (batch, time) or (batch, time, "
            f"channels). Received a prediction of shape {shape}."
        )
    y_true, y_pred = to_rank(y_true, 3, _keep), to_rank(y_pred, 3, _keep)
    if len(received) < 2 or not _shapes.fits(tuple(y_true.shape), tuple(y_pred.shape)):
        raise ValueError(
            f"{loss} needs a target of the prediction's shape, {shape}. Received a "
            f"target of shape {received}."
        )
    counts = _part(loss, "mask", valid, y_pred, shape)
    weight = _part(loss, "sample_weight", weight, y_pred, shape)
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


class Moments(NamedTuple):
    """Means, variances and the covariance over time, `(batch, channels)` each.

    Attributes:
        near_true: Numbers near the targets' means, `(batch, 1, channels)`. Of values
            about 1000 float32 has too few digits to be squared: what these numbers
            leave over is what is added up.
        near_pred: Likewise.
        mean_true: The targets' means, less `near_true`.
        mean_pred: Likewise.
        var_true: Divided by the number of steps, as all moments are.
        var_pred: Likewise.
        cov: The covariance.
    """

    near_true: Any
    near_pred: Any
    mean_true: Any
    mean_pred: Any
    var_true: Any
    var_pred: Any
    cov: Any

    @property
    def gap(self) -> Any:
        """The difference of the means."""
        return (self.near_true - self.near_pred)[:, 0] + self.mean_true - self.mean_pred

    def size_true(self) -> Any:
        """The square of the targets' mean."""
        return ops.square(self.near_true[:, 0] + self.mean_true)

    def size_pred(self) -> Any:
        return ops.square(self.near_pred[:, 0] + self.mean_pred)


def moments(of: Series) -> Moments:
    """The moments of sequences; no gradient flows through them.

    Equal values give a variance of exactly 0: the first is taken off before anything
    is added up.
    """
    y_true, y_pred = ops.stop_gradient(of.y_true), ops.stop_gradient(of.y_pred)
    lanes = 1
    mean: Callable[..., Any]
    if of.steps is None:
        # One pass. With every n-th step side by side, as channels of their own, more
        # numbers are added up at once; their moments are merged (Chan et al. 1983).
        time, channels = y_true.shape[1:]
        if time and channels:
            lanes = max(
                n for n in range(1, max(_LANES // channels, 1) + 1) if time % n == 0
            )
            shape = (-1, time // lanes, lanes * channels)
            y_true, y_pred = ops.reshape(y_true, shape), ops.reshape(y_pred, shape)
        first = max(_FIRST // lanes, 1)

        def near(tensor: Any) -> Any:
            start = tensor[:, :1]
            return start + ops.mean(tensor[:, :first] - start, axis=1, keepdims=True)

        mean = functools.partial(ops.mean, axis=1)
    else:
        index = ops.argmax(ops.cast(ops.not_equal(of.steps, 0.0), "int32"), axis=1)
        index = ops.expand_dims(index, 1)

        def near(tensor: Any) -> Any:
            at = ops.broadcast_to(index, ops.shape(tensor[:, :1]))
            start = ops.take_along_axis(tensor, at, axis=1)
            return start + ops.expand_dims(of.mean(tensor - start), 1)

        mean = of.mean

    near_true, near_pred = near(y_true), near(y_pred)
    d_true, d_pred = y_true - near_true, y_pred - near_pred
    mean_true, mean_pred = mean(d_true), mean(d_pred)
    var_true = mean(ops.square(d_true)) - ops.square(mean_true)
    var_pred = mean(ops.square(d_pred)) - ops.square(mean_pred)
    cov = mean(d_true * d_pred) - mean_true * mean_pred
    found = (near_true, near_pred, mean_true, mean_pred, var_true, var_pred, cov)
    return Moments(*found) if lanes == 1 else _merged(found, lanes, channels)


def _merged(found: tuple[Any, ...], lanes: int, channels: int) -> Moments:
    """The moments of all steps from those of each lane's."""
    split = [ops.reshape(moment, (-1, lanes, channels)) for moment in found]
    near_true, near_pred, mean_true, mean_pred, var_true, var_pred, cov = split
    mean_true = mean_true + (near_true - near_true[:, :1])
    mean_pred = mean_pred + (near_pred - near_pred[:, :1])
    all_true, all_pred = ops.mean(mean_true, axis=1), ops.mean(mean_pred, axis=1)
    off_true = mean_true - ops.expand_dims(all_true, 1)
    off_pred = mean_pred - ops.expand_dims(all_pred, 1)
    return Moments(
        near_true[:, :1],
        near_pred[:, :1],
        all_true,
        all_pred,
        ops.mean(var_true + ops.square(off_true), axis=1),
        ops.mean(var_pred + ops.square(off_pred), axis=1),
        ops.mean(cov + off_true * off_pred, axis=1),
    )


def mean_of_valid(losses: Any, valid: Any) -> Any:
    """The mean over the samples with a valid element."""
    return ops.mean(per_sample(losses, _shapes.valid_samples(valid), []))


def varies(variance: Any, size: Any, epsilon: float) -> Any:
    """Where a variance is more than rounding: bool.

    Args:
        variance: Any tensor.
        size: The square of the values' mean.
        epsilon: What a standard deviation is at least, relative to the mean.
    """
    return variance > ops.maximum(epsilon**2 * size, _NO_VARIANCE)


def with_gradient(
    value: Any,
    of: Series,
    at: Moments,
    of_true: tuple[Any, Any, Any],
    of_pred: tuple[Any, Any, Any],
) -> Any:
    """A function of the moments, with a gradient in closed form.

    The gradient of each of them at step `t` is a multiple of `y_t - mean(y)`, of
    `p_t - mean(p)` or a constant, so that theirs is the sum of all three: one pass.

    Args:
        value: `(batch, channels)`.
        of: The sequences.
        at: Their moments.
        of_true: The factors of the targets' gradient: of `y_t - mean(y)`, of
            `p_t - mean(p)`, and the constant.
        of_pred: Those of the predictions'.

    Returns:
        The value; it can be differentiated once.
    """
    y_true, y_pred = ops.stop_gradient(of.y_true), ops.stop_gradient(of.y_pred)
    number = 1.0 if of.steps is not None else ops.shape(y_true)[1]
    number = ops.cast(number, y_true.dtype)

    def constant(factors: tuple[Any, Any, Any]) -> Callable[..., Any]:
        a, b, c = factors
        c = c - a * at.mean_true - b * at.mean_pred

        def function(_: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                on_true, on_pred, on_all = (
                    ops.expand_dims(upstream * factor / number, 1)
                    for factor in (a, b, c)
                )
                total = on_true * (y_true - at.near_true)
                total = total + (on_pred * (y_pred - at.near_pred) + on_all)
                return (total if of.steps is None else total * of.steps,)

            return (ops.zeros_like(value),), gradient

        return function

    # One for each, so that a gradient which nobody asks for costs nothing.
    for tensor, factors in ((of.y_true, of_true), (of.y_pred, of_pred)):
        (zero,) = custom_gradient(constant(factors), [tensor])
        value = value + zero
    return value


def _keep(tensor: Any, axis: Any) -> Any:
    return tensor


def _part(
    loss: str, name: str, tensor: Any, y_pred: Any, shape: tuple[Any, ...]
) -> Any:
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
    return to_rank(ops.cast(tensor, y_pred.dtype), 3, ops.mean)
