"""Sequences of numbers: masked, weighted, and their moments over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from lossweigh._backend import custom_gradient
from lossweigh.branches.elements import divide, to_rank
from lossweigh.losses import _shapes

# Where a variance's inverse, squared, still fits into float32.
_NO_VARIANCE = 1e-30
# How many numbers a processor adds up side by side, as far as they are laid out for it:
# eager torch does so by itself.
_LANES = {"torch": 1, "jax": 32, "tensorflow": 96}[keras.backend.backend()]
# The steps whose values are taken off before the sums of the means, the variances and
# the covariance, and in the gradient. XLA adds up a difference in one pass; but one
# that two sums have in common it writes down first, which takes longer than the sums.
_SHIFTS = (0, 1, 2, 3) if keras.backend.backend() == "jax" else (0, 0, 0, 0)


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

    Squares of numbers about 1000 leave few digits in float32, so a value of the
    sequence is taken off first: what is added up is the rest. At worst, that value is
    `sqrt(T)` standard deviations away from the mean of `T` steps.

    Attributes:
        rest_true: `(batch, time / lanes, lanes * channels)`, the targets, less a value
            of theirs.
        rest_pred: Likewise.
        mean_true: The mean of the rest.
        mean_pred: Likewise.
        size_true: The square of the targets' own mean.
        size_pred: Likewise.
        gap: The difference of the targets' mean and the predictions'.
        var_true: Divided by the number of steps, as the covariance is.
        var_pred: Likewise.
        cov: The covariance.
    """

    rest_true: Any
    rest_pred: Any
    mean_true: Any
    mean_pred: Any
    size_true: Any
    size_pred: Any
    gap: Any
    var_true: Any
    var_pred: Any
    cov: Any


def moments(of: Series) -> Moments:
    """The moments of sequences; no gradient flows through them.

    Equal values give a variance of exactly 0.
    """
    lanes = _number_of_lanes(of)
    shifts = _SHIFTS if of.steps is None else (0, 0, 0, 0)

    def mean(folded: Any) -> Any:
        values = of.mean(folded)
        if lanes == 1:
            return values
        return ops.mean(ops.reshape(values, (-1, lanes, of.y_pred.shape[2])), axis=1)

    def shifted(tensor: Any) -> Any:
        """What is taken off, the rest, and its mean: one of each for all shifts."""
        near = {step: _near(of, tensor, step) for step in set(shifts)}
        rest = {step: _less(tensor, near[step], lanes) for step in near}
        first = mean(rest[0])
        means = {step: first + (near[0] - near[step])[:, 0] for step in near}
        return tuple([each[step] for step in shifts] for each in (near, rest, means))

    near_true, rest_true, mean_true = shifted(ops.stop_gradient(of.y_true))
    near_pred, rest_pred, mean_pred = shifted(ops.stop_gradient(of.y_pred))
    start_true, start_pred = near_true[0][:, 0], near_pred[0][:, 0]
    return Moments(
        rest_true=rest_true[3],
        rest_pred=rest_pred[3],
        mean_true=mean_true[3],
        mean_pred=mean_pred[3],
        size_true=_square(start_true + mean_true[0]),
        size_pred=_square(start_pred + mean_pred[0]),
        gap=(start_true - start_pred) + (mean_true[0] - mean_pred[0]),
        var_true=mean(_square(rest_true[1])) - _square(mean_true[1]),
        var_pred=mean(_square(rest_pred[1])) - _square(mean_pred[1]),
        cov=mean(rest_true[2] * rest_pred[2]) - mean_true[2] * mean_pred[2],
    )


def _number_of_lanes(of: Series) -> int:
    """How many steps are put side by side, as channels: numbers added up at once."""
    time, channels = of.y_pred.shape[1:]
    if of.steps is not None or not time or not channels:
        return 1
    most = max(_LANES // channels, 1)
    return max(number for number in range(1, most + 1) if time % number == 0)


def _less(tensor: Any, near: Any, lanes: int) -> Any:
    """The difference, `(batch, time / lanes, lanes * channels)`."""
    if lanes > 1:
        time, channels = tensor.shape[1:]
        tensor = ops.reshape(tensor, (-1, time // lanes, lanes * channels))
    return tensor - _repeat(near, lanes)


def _repeat(tensor: Any, lanes: int) -> Any:
    """`(batch, 1, channels)` to `(batch, 1, lanes * channels)`."""
    return tensor if lanes == 1 else ops.tile(tensor, (1, 1, lanes))


def _square(tensor: Any) -> Any:
    return tensor * tensor  # `ops.square` takes longer on torch


def _near(of: Series, tensor: Any, step: int = 0) -> Any:
    """Something near the mean over time, `(batch, 1, channels)`; of equal values, one.

    If all steps count alike, it's the value of one of them.
    """
    if of.steps is None:
        time = tensor.shape[1]
        step = max(min(step, time - 1), 0) if isinstance(time, int) else 0
        return tensor[:, step : step + 1]
    first = ops.argmax(ops.cast(ops.not_equal(of.steps, 0.0), "int32"), axis=1)
    first = ops.broadcast_to(ops.expand_dims(first, 1), ops.shape(tensor[:, :1]))
    start = ops.take_along_axis(tensor, first, axis=1)
    return start + ops.expand_dims(of.mean(tensor - start), 1)


def centered(of: Series, tensor: Any) -> tuple[Any, Any]:
    """A tensor less its means over time, and these squared; with all gradients."""
    near = ops.stop_gradient(_near(of, tensor))
    mean = of.mean(tensor - near)
    size = _square(ops.stop_gradient(mean) + near[:, 0])
    return tensor - near - ops.expand_dims(mean, 1), size


def varies(variance: Any, size: Any, epsilon: float) -> Any:
    """Where a variance is more than rounding: bool.

    Args:
        variance: Any tensor.
        size: The square of the values' mean.
        epsilon: What a standard deviation is at least, relative to the mean.
    """
    return variance > epsilon**2 * size + _NO_VARIANCE


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
        of_true: What makes the targets' gradient, `(batch, channels)` each: the
            factors of `y_t - mean(y)` and of `p_t - mean(p)`, and the constant.
        of_pred: Those of the predictions'.

    Returns:
        The value; it can be differentiated once.
    """
    shape, lanes = ops.shape(of.y_pred), _number_of_lanes(of)
    number = shape[1] if of.steps is None else 1
    if not isinstance(number, int):
        number = ops.cast(number, value.dtype)

    def constant(factors: tuple[Any, Any, Any]) -> Callable[..., Any]:
        def function(_: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                a, b, c = (upstream / number * factor for factor in factors)
                c = c - a * at.mean_true - b * at.mean_pred
                a, b, c = (_repeat(each[:, None], lanes) for each in (a, b, c))
                total = a * at.rest_true + (b * at.rest_pred + c)
                if lanes > 1:
                    total = ops.reshape(total, shape)
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
