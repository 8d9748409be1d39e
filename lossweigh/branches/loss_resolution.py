"""What a user may give as a loss, and how it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from lossweigh._types import Tensor


@keras.saving.register_keras_serializable(package="lossweigh")
class Partial:
    """A loss function with some of its keyword arguments, which can be saved.

    Args:
        function: A function `(*tensors, **keywords)`.
        keywords: Values that can be saved.
    """

    def __init__(
        self, function: Callable[..., Any], keywords: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.keywords = dict(keywords)
        self.__name__ = function.__name__

    def __call__(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors, **self.keywords)

    def get_config(self) -> dict[str, Any]:
        return {
            "function": keras.saving.serialize_keras_object(self.function),
            "keywords": keras.saving.serialize_keras_object(self.keywords),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Partial:
        return cls(
            keras.saving.deserialize_keras_object(config["function"]),
            keras.saving.deserialize_keras_object(config["keywords"]),
        )


def as_loss(loss: Any) -> Any:
    """A loss that can be saved: of a class an object, of a partial a `Partial`.

    Raises:
        TypeError: If a class needs arguments, or a partial has positional ones.
    """
    if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
        try:
            return loss()
        except TypeError as error:
            raise TypeError(
                f"`loss` must be a loss, not the class of one that needs arguments: "
                f"write `{loss.__name__}(...)`. Received: loss={loss!r} ({error})."
            ) from None
    if isinstance(loss, functools.partial):
        if loss.args or not hasattr(loss.func, "__name__"):
            raise TypeError(
                "`loss` must be a partial of a named function with keyword arguments "
                "alone, as in `functools.partial(my_loss, scale=2.0)`. "
                f"Received: loss={loss!r}."
            )
        loss_function(loss.func)
        return Partial(loss.func, loss.keywords)
    return loss


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
        called = next(c for c in type(loss).__mro__ if "__call__" in vars(c))
        if called.__module__.split(".")[0] in ("keras", "lossweigh"):
            return loss.call
        return loss  # its own `__call__` is what the user means
    if isinstance(loss, keras.layers.Layer):
        return loss
    if getattr(loss, "__name__", None) == "<lambda>":
        raise ValueError(
            "`loss` must not be a Python lambda: a model that holds one can be saved "
            "but not loaded. Write `def my_loss(y_true, y_pred): ...`, decorate it "
            "with `@keras.saving.register_keras_serializable()` and pass my_loss."
        )
    has_config = hasattr(loss, "get_config") and hasattr(loss, "from_config")
    can_be_saved = hasattr(loss, "__name__") or has_config
    if isinstance(loss, type) or not callable(loss) or not can_be_saved:
        raise TypeError(
            "`loss` must be a Keras loss name, a keras.losses.Loss, a named function "
            "(y_true, y_pred), or an object that is called so and saved by its "
            f"`get_config` and `from_config`. Received: loss={loss!r}."
        )
    return loss


def is_of_the_user(function: Callable[..., Any]) -> bool:
    """Whether neither Keras nor lossweigh defines a function, or a method's class."""
    defined = getattr(function, "__self__", function)
    defined = defined if hasattr(defined, "__name__") else type(defined)
    return str(defined.__module__).split(".")[0] not in ("keras", "lossweigh")


def loss_name(loss: Any) -> str:
    """The name of a loss's function or class."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return getattr(loss, "__name__", type(loss).__name__)
