"""`MaskedLoss`: a loss of several elements at once, which applies masks itself."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from lossweigh import _check, _compat
from lossweigh._types import Mask, Tensor
from lossweigh.branches.masking import divide, fraction, match_rank, per_sample

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "none")


class Mean(keras.losses.Loss):
    """Keras's reduction of values that are losses already; by default their mean.

    Under `tf.distribute` Keras divides it by the number of replicas, unless the values
    are a scalar.
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


class MaskedLoss(keras.losses.Loss, abc.ABC):
    """A loss whose value depends on several elements, so it applies masks itself.

    Abstract: a loss is a subclass with one method to write, `values`. Keras applies a
    mask `(batch, time)` and a weight to what a loss returns. That fails, or is wrong,
    if the loss has reduced time. So this class passes mask and weight to `values`. It
    works in `compile(loss=...)` of any Keras model, and in a `BranchLoss`.

    Args:
        name: Name of the loss.
        reduction: `"sum_over_batch_size"`, `"sum"` or `"none"`, as in Keras.
        dtype: As in Keras.

    Attributes:
        task_type: `"regression"` or `"classification"`.
        over_time: Whether axis 1 is time. Then a mask that Keras lost matters.
    """

    task_type = "regression"
    over_time = True

    def __init__(
        self,
        *,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        reduction = "none" if reduction is None else reduction
        _check.one_of("reduction", reduction, REDUCTIONS)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._mean = Mean(reduction=reduction, dtype=dtype)

    @abc.abstractmethod
    def values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        """The weighted loss of each sample, or its parts.

        Args:
            *tensors: `y_true, y_pred`, or the loss's other arguments. Predictions are
                float32.
            valid: Bool, `(batch,)`, `(batch, time)` or the prediction's shape, true
                for elements that are labelled and not masked. `None` if all are.
                The other elements may hold any number, nan included.
            weight: float32, of 1 to as many axes as the prediction, axes of size 1
                included. `None` if all weigh 1.

        Returns:
            `(batch, ...)`. The mean over all axes but the first is the sample's loss
            times its weight, 0 for a sample without a valid element.
        """

    def sample_values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        """The mean of `values` over all axes but the first.

        Only this mean counts, unless the reduction is `"none"`. A loss may override the
        method if it can compute the mean at a lower cost.

        Args:
            *tensors: As for `values`.
            valid: As for `values`.
            weight: As for `values`.

        Returns:
            `(batch,)`; a scalar if `values` gives one.
        """
        values = self.values(*tensors, valid=valid, weight=weight)
        return match_rank(values, min(len(values.shape), 1), ops.mean)

    def call(self, *tensors: Tensor) -> Tensor:
        return self.values(*tensors)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None
    ) -> Tensor:
        mask = _compat.keras_mask(y_pred)
        with keras.name_scope(self.name):
            y_true, y_pred = keras.tree.map_structure(self._tensor, (y_true, y_pred))
            if sample_weight is not None:
                sample_weight = ops.convert_to_tensor(sample_weight, self.dtype)
            counts = {"valid": mask, "weight": sample_weight}
            if self.reduction == "none":
                return self.values(y_true, y_pred, **counts)
            samples = self.sample_values(y_true, y_pred, **counts)
            if len(samples.shape) == 0:
                # Keras doesn't scale a scalar under `tf.distribute`.
                samples = ops.reshape(samples, (1,))
            elif self.reduction != "sum":
                samples = shares_of_samples(samples, mask, [sample_weight], "valid")
            return self._mean(samples, samples)

    def _tensor(self, x: Tensor) -> Tensor:
        x = ops.convert_to_tensor(x)
        is_float = keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(x.dtype)
        )
        return ops.cast(x, self.dtype) if is_float else x


def shares_of_samples(
    samples: Tensor,
    valid: Mask,
    weights: list[Tensor],
    normalize: str,
    training: bool = False,
) -> Tensor:
    """Each sample's share of the batch's mean, from the values of a `MaskedLoss`.

    Args:
        samples: From `MaskedLoss.sample_values`, `(batch,)`, already weighted.
        valid: The argument of `sample_values`.
        weights: The factors of its argument `weight`.
        normalize: As for `BranchLoss`; `"keras2"` divides by the fraction of samples
            whose weight isn't 0.
        training: As for `per_sample`.

    Returns:
        `(batch,)`, whose mean is the mean over the samples with a valid element.
    """
    if normalize == "keras2":
        for weight in weights:
            if weight is not None:
                has_weight = match_rank(ops.not_equal(weight, 0), 1, ops.any)
                has_weight = ops.cast(has_weight, "float32")
                samples = divide(samples, fraction(has_weight, training))
    if valid is not None:
        valid = match_rank(valid, 1, ops.any)
    return per_sample(samples, valid, [], training=training)
