"""What lossweigh knows about the losses of `keras.losses`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from lossweigh import _compat
from lossweigh._types import Shape
from lossweigh.branches.loss_resolution import Partial

_losses = keras.losses

# A loss is compared by identity, not by name: a user's loss may have the name of one
# of Keras's.
_OF_DIFFERENCES = {
    _losses.Huber: _losses.huber,
    _losses.LogCosh: _losses.log_cosh,
    _losses.MeanAbsoluteError: _losses.mean_absolute_error,
    _losses.MeanSquaredError: _losses.mean_squared_error,
}
_ELEMENTWISE_REGRESSION = {
    **_OF_DIFFERENCES,
    _losses.MeanAbsolutePercentageError: _losses.mean_absolute_percentage_error,
    _losses.MeanSquaredLogarithmicError: _losses.mean_squared_logarithmic_error,
    _losses.Poisson: _losses.poisson,
}
# Keras losses whose target has a class of its own at each element, 0 or 1.
_BINARY = {
    _losses.BinaryCrossentropy: _losses.binary_crossentropy,
    _losses.BinaryFocalCrossentropy: _losses.binary_focal_crossentropy,
}
# Keras losses whose value at an element depends on that element alone: they are
# averaged over the last axis, so a mask, weight or missing label of one element
# can be honoured by asking for them element by element.
_HINGE = {_losses.Hinge: _losses.hinge, _losses.SquaredHinge: _losses.squared_hinge}
_ELEMENTWISE = {
    **_HINGE,
    **_BINARY,
    **_ELEMENTWISE_REGRESSION,
}
_SPARSE = {
    _losses.SparseCategoricalCrossentropy: _losses.sparse_categorical_crossentropy,
    _losses.CategoricalGeneralizedCrossEntropy: (
        _losses.categorical_generalized_cross_entropy
    ),
}
# Keras losses whose target isn't shaped as the prediction, and a sample's shape:
# `CTC` takes a sequence of another length, `Circle` a whole sample's class.
_OTHER_TARGETS = (
    ({_losses.CTC: _losses.ctc}, (None,)),
    ({_losses.Circle: _losses.circle}, ()),
)
# Keras losses that are one number for the whole batch unless they have axes.
_OF_BATCHES = {_losses.Dice: _losses.dice, _losses.Tversky: _losses.tversky}
# Keras losses that go below 0 where the prediction is good.
_BELOW_ZERO = {
    _losses.CosineSimilarity: _losses.cosine_similarity,
    _losses.Poisson: _losses.poisson,
}
# Keras losses of a prediction with a number for each class.
_CATEGORICAL = {
    _losses.CategoricalCrossentropy: _losses.categorical_crossentropy,
    _losses.CategoricalFocalCrossentropy: _losses.categorical_focal_crossentropy,
    _losses.CategoricalHinge: _losses.categorical_hinge,
    _losses.KLDivergence: _losses.kl_divergence,
    **_SPARSE,
}
# Keras losses of classes.
_CLASSIFICATION = {
    _losses.Circle: _losses.circle,
    _losses.CTC: _losses.ctc,
    _losses.Dice: _losses.dice,
    _losses.Tversky: _losses.tversky,
    **_BINARY,
    **_CATEGORICAL,
    **_HINGE,
}


def _is_one_of(loss: Any, known: Mapping[type, Callable[..., Any]]) -> bool:
    """Whether a loss is one of Keras's own, as a name, a function or an object."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return type(loss) in known or any(loss is function for function in known.values())


def is_elementwise(loss: Any) -> bool:
    """Whether Keras averages the loss's values over the last axis."""
    return _is_one_of(loss, _ELEMENTWISE) and getattr(loss, "axis", -1) in (-1, None)


def is_of_differences(loss: Any) -> bool:
    """Whether it is a Keras loss of target less prediction alone.

    Its target may then be shifted and scaled: a standardised one means the same.
    """
    return _is_one_of(loss, _OF_DIFFERENCES)


def is_sparse(loss: Any) -> bool:
    """Whether the targets of a Keras loss are class indices."""
    return _is_one_of(loss, _SPARSE)


def is_binary(loss: Any) -> bool:
    """Whether each element of a Keras loss's target is a class of its own, 0 or 1."""
    return _is_one_of(loss, _BINARY)


def takes_probabilities(loss: Any) -> bool:
    """Whether the targets of a Keras loss are numbers from 0 to 1."""
    of_classes = _is_one_of(loss, _CATEGORICAL) and not is_sparse(loss)
    return of_classes or is_binary(loss)


def other_target_shape(loss: Any) -> Shape | None:
    """The shape of a sample's target, whole numbers, where a Keras loss has its own."""
    for losses, shape in _OTHER_TARGETS:
        if _is_one_of(loss, losses):
            return shape
    return None


def axis_of(loss: Any) -> Any:
    """The axis that a Keras loss works along; -1 unless it was given."""
    if type(loss).__module__.split(".")[0] != "keras":
        return -1
    axis = _compat.serialize_loss(loss)["config"].get("axis", -1)
    return -1 if axis is None else axis


def is_of_batches(loss: Any) -> bool:
    """Whether a Keras loss is one number for a whole batch, as it was given."""
    return _is_one_of(loss, _OF_BATCHES) and axis_of(loss) == -1


def is_hinge(loss: Any) -> bool:
    """Whether each element of a Keras loss's target is a class, -1 or 1."""
    return _is_one_of(loss, _HINGE)


def may_mask_values(loss: Any) -> bool:
    """Whether a Keras loss says by a mask which of its values don't count."""
    return _is_one_of(loss, {_losses.Circle: _losses.circle})


def num_classes(loss: Any, features: int | None) -> int | None:
    """How many classes a Keras loss knows, `None` for another loss.

    Args:
        loss: The loss.
        features: The size of the prediction's last axis, `None` if it isn't known.
    """
    if _is_one_of(loss, _BINARY) or _is_one_of(loss, _HINGE):
        return 2
    return features if _is_one_of(loss, _CATEGORICAL) else None


def goes_below_zero(loss: Any) -> bool:
    """Whether it is a Keras loss that training takes below 0."""
    return _is_one_of(loss, _BELOW_ZERO)


def ignored_class(loss: Any) -> int | None:
    """The class index that a `SparseCategoricalCrossentropy` leaves out."""
    if type(loss) is not keras.losses.SparseCategoricalCrossentropy:
        return None
    return loss.get_config()["ignore_class"]


def infer_task_type(loss: Any) -> str:
    """`"classification"` or `"regression"`, for uncertainty weighting.

    A user's loss says it with an attribute `task_type`; without one it is a regression.
    A partial of one of Keras's functions counts as the function does.
    """
    if isinstance(loss, Partial):
        loss = loss.function
    elif isinstance(loss, str):
        loss = keras.losses.get(loss)
    if _is_one_of(loss, _CLASSIFICATION) or isinstance(loss, tuple(_CLASSIFICATION)):
        return "classification"
    return getattr(loss, "task_type", "regression")
