"""`LastStep`: a metric of the last real step of each sequence."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _compat
from lossweigh.branches.masking import match_rank
from lossweigh.losses import _steps


@keras.saving.register_keras_serializable(package="lossweigh")
class LastStep(keras.metrics.Metric):
    """Another metric, or a loss, at the last real step of each sequence.

    It serves a model that predicts at each step and is judged by its last one. Such a
    model is trained with `TargetReplication`, and watched by `val_last_step_accuracy`.

    Args:
        metric: A Keras metric or loss name, a `keras.metrics.Metric`, or a function
            `(y_true, y_pred)` that gives one number a sequence. `"accuracy"` is
            binary, sparse or categorical by the shapes.
        name: Name of the metric. Default: `last_step_` and the inner metric's.
        dtype: As in Keras.

    Call arguments:
        y_true: The target. One for each sequence, `(batch,)`, `(batch, 1)` or
            `(batch, classes)`; or one for each step, `(batch, time, ...)`.
        y_pred: `(batch, time, ...)`.
        sample_weight: `(batch, time)`, 0 where a step isn't real, or `(batch,)`.
            Without it, the mask that Keras attached to the prediction says which
            steps are real. (A training model passes the mask, and for
            `weighted_metrics` multiplies it by the sample weights.) The inner metric
            gets the last step's weight.

    Raises:
        ValueError: If the prediction has no time axis.

    Examples:
        >>> from keras import ops
        >>> metric = LastStep("mae")
        >>> y_pred = ops.array([[[5.0], [2.0], [9.0]]])
        >>> real = ops.array([[1.0, 1.0, 0.0]])
        >>> print(float(metric(ops.array([[1.0]]), y_pred, sample_weight=real)))
        1.0
    """

    def __init__(
        self, metric: Any, *, name: str | None = None, dtype: Any = None
    ) -> None:
        inner = _inner(metric)
        label = metric if isinstance(metric, str) else inner.name
        super().__init__(name=name or f"last_step_{label}", dtype=dtype)
        self.metric = metric
        self.inner = inner

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = _compat.keras_mask(y_pred)
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) < 2:
            raise ValueError(
                f"{type(self).__name__} needs a prediction with time steps, (batch, "
                f"time, ...). Received a prediction of shape {tuple(y_pred.shape)}."
            )
        shape = ops.shape(y_pred)[:2]
        weight = ops.ones(shape, "float32")
        if mask is not None and sample_weight is None:
            sample_weight = mask
        if sample_weight is not None:
            step_weight = ops.convert_to_tensor(sample_weight)
            step_weight = match_rank(ops.cast(step_weight, "float32"), 2, ops.mean)
            weight = ops.broadcast_to(step_weight, shape)
        at_last, _ = _steps.last_step(weight > 0)
        at_last = ops.cast(at_last, "float32")
        last = ops.argmax(at_last, axis=1)
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[1] != 1:
            y_true = _at(y_true, last)
        elif (
            (len(y_true.shape), len(y_pred.shape)) == (2, 3)
            and y_true.shape[1] == y_pred.shape[1] != 1
            and y_true.shape[1] != y_pred.shape[2]
        ):
            y_true = _at(y_true, last)  # class indices at each step, not one's classes
        self.inner.update_state(
            y_true, _at(y_pred, last), sample_weight=ops.sum(weight * at_last, axis=1)
        )

    def result(self) -> Any:
        return self.inner.result()

    def reset_state(self) -> None:
        self.inner.reset_state()

    def get_config(self) -> dict[str, Any]:
        metric = self.metric
        if not isinstance(metric, str):
            metric = keras.saving.serialize_keras_object(metric)
        return {**super().get_config(), "metric": metric}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LastStep:
        config = dict(config)
        if isinstance(config["metric"], dict):
            config["metric"] = keras.saving.deserialize_keras_object(config["metric"])
        return cls(**config)


def _at(tensor: Any, step: Any) -> Any:
    """`(batch, time, ...)` to `(batch, ...)`, at each sequence's step."""
    index = ops.cast(step, "int32")
    for _ in range(len(tensor.shape) - 1):
        index = ops.expand_dims(index, -1)
    return ops.squeeze(ops.take_along_axis(tensor, index, axis=1), 1)


def _inner(metric: Any) -> Any:
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if metric in ("accuracy", "acc"):
        return keras.metrics.MeanMetricWrapper(_accuracy, name=metric)
    metric = keras.metrics.get(metric)
    if isinstance(metric, keras.metrics.Metric):
        return metric
    return keras.metrics.MeanMetricWrapper(metric, name=metric.__name__)


def _accuracy(y_true: Any, y_pred: Any) -> Any:
    if y_pred.shape[-1] == 1:
        y_true = match_rank(y_true, 2, ops.any)
        return keras.metrics.binary_accuracy(y_true, y_pred)
    if len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1]:
        return keras.metrics.categorical_accuracy(y_true, y_pred)
    return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
