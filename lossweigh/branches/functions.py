"""What a user may give as a loss, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

# Keras losses whose value at an element depends on that element alone: they are
# averaged over the last axis, so a mask, weight or missing label of one element
# can be honoured by asking for them element by element.
ELEMENTWISE = (
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "Hinge",
    "Huber",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SquaredHinge",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "hinge",
    "huber",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "squared_hinge",
)
SPARSE = ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy")


def loss_function(loss: Any) -> Callable[..., Any]:
    """What computes the unreduced values: tensors to `(batch, ...)`.

    Raises:
        TypeError: If `loss` is not a name, a Keras loss, a layer or a function.
        ValueError: If it is an unknown name, a Python lambda, or a Keras loss that
            reduces in another way than by the mean.
    """
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            raise ValueError(
                "`loss` must be the name of a Keras loss, such as 'mse' or "
                f"'binary_crossentropy'. Received: loss={loss!r}."
            ) from None
    if isinstance(loss, keras.losses.Loss):
        if loss.reduction not in ("sum_over_batch_size", "mean", "none", None):
            raise ValueError(
                "`loss` must leave the reduction to BranchLoss, which has its own "
                "rule (`normalize`). Received a loss with "
                f"reduction={loss.reduction!r}. Leave the argument out."
            )
        return loss.call
    if isinstance(loss, keras.layers.Layer):
        return loss
    if getattr(loss, "__name__", None) == "<lambda>":
        raise ValueError(
            "`loss` must not be a Python lambda: a model that holds one can be saved "
            "but not loaded. Write `def my_loss(y_true, y_pred): ...`, decorate it "
            "with `@keras.saving.register_keras_serializable()` and pass my_loss."
        )
    if isinstance(loss, type) or not callable(loss) or not hasattr(loss, "__name__"):
        raise TypeError(
            "`loss` must be a Keras loss name, a keras.losses.Loss instance, or a "
            f"named function (y_true, y_pred). Received: loss={loss!r}."
        )
    return loss


def loss_name(loss: Any) -> str:
    """The name of a loss's function or class."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return getattr(loss, "__name__", type(loss).__name__)


def kind_of(loss: Any) -> str:
    """`"classification"` or `"regression"`, for uncertainty weighting."""
    if "crossentropy" in loss_name(loss).lower():
        return "classification"
    return "regression"
