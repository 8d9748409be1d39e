"""Lipton, Kale, Elkan & Wetzel: a sequence's target at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from lossweigh import _check, _compat
from lossweigh._types import Mask, Shape, Tensor
from lossweigh.branches import MaskedLoss, TargetSpec
from lossweigh.branches.keras_losses import infer_task_type, is_sparse
from lossweigh.branches.loss_resolution import loss_function, loss_name
from lossweigh.branches.masking import divide, match_rank
from lossweigh.losses import _shapes, _steps


@keras.saving.register_keras_serializable(package="lossweigh")
class TargetReplication(MaskedLoss, TargetSpec):
    """A sequence's target, predicted at every step; the last step counts most.

        L = alpha * mean_{t < T} l_t + (1 - alpha) * l_T

    with `l_t` the loss of the prediction at step `t` against the one target of the
    sequence, `T` its last real step (neither masked nor padded, on either side), and
    the mean over its earlier real steps. A sequence with one real step has no earlier
    one, so its loss is `l_T`. A sequence without a real step doesn't count.

    The recurrent network needs `return_sequences=True`. The metric
    `lossweigh.metrics.LastStep` judges the last step. With `alpha=0` only the last
    step's loss counts.

    A class weight in a `BranchLoss` weighs the sequence, by its class. A sample weight
    `(batch,)` weighs the sequence too; one of `(batch, time)` weighs each step's loss.

    Args:
        loss: `l`, a Keras loss name, a `keras.losses.Loss` or a registered function
            `(y_true, y_pred)` that gives one number a step, `(batch, time)`.
        alpha: Float from 0 to 1. The paper uses 0.5.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        y_true: The target, once a sequence: `(batch,)` class indices for a sparse
            loss, otherwise `(batch, classes)`; `(batch, 1)` or `(batch,)` for one
            output.
        y_pred: `(batch, time, classes)`.

    Returns:
        `values` gives `(batch,)` float32.

    Raises:
        TypeError: If `loss` is none of the above.
        ValueError: If `alpha` is out of range, shapes don't fit, or `loss` doesn't
            give one number a step.

    Examples:
        >>> from keras import ops
        >>> loss = TargetReplication("mse", alpha=0.5)
        >>> y_pred = ops.array([[[3.0], [1.0], [2.0]]])  # errors 3, 1 and 2
        >>> print(ops.convert_to_numpy(loss(ops.array([[0.0]]), y_pred)))
        4.5

    Reference:
        Z. C. Lipton, D. C. Kale, C. Elkan, R. Wetzel. Learning to diagnose with LSTM
        recurrent neural networks. ICLR 2016, section 4.1. The paper's sequences
        aren't padded, and its mean includes the last step; ours doesn't.
    """

    def __init__(
        self,
        loss: str | keras.losses.Loss | Callable[[Any, Any], Any],
        *,
        alpha: float = 0.5,
        name: str = "target_replication",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.loss = loss
        self.function = loss_function(loss)
        self.alpha = _check.between("alpha", alpha, 0.0, 1.0)
        self.task_type = infer_task_type(loss)
        self.is_sparse = is_sparse(loss)

    def values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        y_true, y_pred = _shapes.target_and_output("TargetReplication", tensors)
        steps = self._per_step(y_true, y_pred, valid)
        if weight is not None:
            steps = steps * match_rank(ops.cast(weight, "float32"), 2, ops.mean)
        if valid is None:
            before, last = steps[:, :-1], ops.sum(steps[:, -1:], axis=1)
            number = ops.cast(ops.shape(before)[1], "float32")
            alpha = ops.where(number > 0, self.alpha, 0.0)
            others = divide(ops.sum(before, axis=1), number)
            return alpha * others + (1.0 - alpha) * last
        real = match_rank(ops.cast(valid, "bool"), 2, ops.any)
        real = ops.broadcast_to(real, ops.shape(steps))
        steps = ops.where(real, steps, 0.0)
        at_last, _ = _steps.last_step(real)
        earlier = ops.logical_and(real, ops.logical_not(at_last))
        number = ops.sum(ops.cast(earlier, "float32"), axis=1)
        last = ops.sum(ops.where(at_last, steps, 0.0), axis=1)
        others = divide(ops.sum(ops.where(earlier, steps, 0.0), axis=1), number)
        alpha = ops.where(number > 0, self.alpha, 0.0)
        return alpha * others + (1.0 - alpha) * last

    def _per_step(self, y_true: Tensor, y_pred: Tensor, valid: Mask) -> Tensor:
        """The loss of each step, `(batch, time)`."""
        expected, _ = self.target_spec(tuple(y_pred.shape))
        received = tuple(y_true.shape)
        if len(received) == len(expected) + 1 and received[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        elif len(received) == len(expected) - 1 and expected[-1] == 1:
            y_true = ops.expand_dims(y_true, -1)
        if len(y_true.shape) != len(expected) or (
            len(expected) == 2 and y_true.shape[1] not in (None, expected[1])
        ):
            raise ValueError(
                "`y_true` must hold the target once a sequence, of the shape "
                f"{expected}, for a prediction of shape {tuple(y_pred.shape)}. "
                f"Received a target of shape {received}."
            )
        if valid is not None:  # elements that aren't valid may be nan
            is_valid = match_rank(ops.cast(valid, "bool"), 2, ops.any)
            is_valid = ops.expand_dims(is_valid, -1)
            y_pred = ops.where(is_valid, y_pred, ops.full_like(y_pred, 0.5))
        shape = (*ops.shape(y_pred)[:2], *y_true.shape[1:])
        target = ops.broadcast_to(ops.expand_dims(y_true, 1), shape)
        steps = self.function(target, y_pred)
        if len(steps.shape) != 2:
            raise ValueError(
                f"`loss` must give one number a step, (batch, time). The loss "
                f"{loss_name(self.loss)!r} gave the shape {tuple(steps.shape)} for a "
                f"prediction of shape {tuple(y_pred.shape)}."
            )
        return ops.cast(steps, "float32")

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        shape = tuple(prediction)
        if len(shape) != 3 or isinstance(shape[0], (list, tuple)):
            raise ValueError(
                "TargetReplication needs an output with time steps, (batch, time, "
                f"classes). Received a prediction of shape {shape}. Give the recurrent "
                "layer `return_sequences=True`."
            )
        if self.is_sparse:
            return (shape[0],), "int32"
        return (shape[0], shape[2]), "float32"

    def get_config(self) -> dict[str, Any]:
        loss = self.loss if isinstance(self.loss, str) else None
        return {
            **super().get_config(),
            "loss": _compat.serialize_loss(self.loss) if loss is None else loss,
            "alpha": self.alpha,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TargetReplication:
        config = dict(config)
        if isinstance(config["loss"], dict):
            config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**config)
