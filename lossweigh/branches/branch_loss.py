"""`BranchLoss`: any loss, mask and weight, to one float32 number a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check, _compat

NORMALIZATIONS = ("valid", "keras2")

# Keras losses whose value at an element depends on that element alone: they are
# averaged over the last axis, so a mask, weight or missing label of one element
# can be honoured by asking for them element by element.
_ELEMENTWISE = (
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
_REWORDED = ("Could not automatically infer", "Exception encountered when calling")
_SPARSE = ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy")


@keras.saving.register_keras_serializable(package="lossweigh")
class BranchLoss(keras.layers.Layer):
    """A loss as a layer: targets and predictions in, `(batch,)` float32 out.

    Call it on `[y_true, y_pred]` or `[y_true, y_pred, sample_weight]`. Masks,
    sample weights, class weights and missing labels are applied here, element
    by element, before anything is averaged, so that the mean of the output over
    the batch is the branch's loss `L`. With `v` the loss of each element (for
    most losses: of each vector along the last axis), `m` 1 where the element is
    neither masked nor unlabelled and 0 elsewhere, and `s` the product of sample
    and class weights:

    | `normalize` | the branch's loss | rule of |
    |---|---|---|
    | `"valid"` | `sum(v s m) / sum(m)` | Keras 3: zero weights count in the mean |
    | `"keras2"` | `sum(v s m) / sum(m) / mean(s != 0)` | Keras 2: they don't |

    Both are 0, with a gradient of 0, where no element of the batch is valid.

    Args:
        loss: A Keras loss name, a `keras.losses.Loss`, or a named function
            `(y_true, y_pred)` that returns one value a sample or a tensor of
            them, `(batch, ...)`. A function of your own is reloaded by its name:
            decorate it with `@keras.saving.register_keras_serializable()`. A
            Python lambda can't be reloaded and is refused.
        class_weight: Optional dict from class index to weight; classes it
            doesn't name weigh 1. The class is the target's own index, the
            `argmax` of a one-hot target, or the rounded value of a binary one,
            at each time step or pixel.
        missing: What marks a label as missing: `None` (no label is), `"nan"`,
            or a number such as `-1`. A vector label of a loss that needs the
            whole vector (a cross-entropy over classes) counts as missing where
            any of its elements is.
        normalize: `"valid"` or `"keras2"`, see above.
        target_shape: Optional shape of a sample's target, for a loss of your
            own whose target isn't shaped like the prediction. Used by
            `build_training_model` alone.
        target_dtype: Optional dtype of the target, likewise.
        branch: The name of the branch; `build_training_model` sets it.
        **kwargs: Passed to `keras.layers.Layer`. The layer computes in float32
            whatever the global policy.

    Call arguments:
        inputs: `[y_true, y_pred]` or `[y_true, y_pred, sample_weight]`.
            `y_pred` is `(batch, ...)`; `y_true` has its shape, or lacks its last
            axis for class indices; `sample_weight` is `(batch,)`, `(batch, 1)`,
            or has any leading part of the prediction's shape.
        mask: Masks of the inputs, passed by Keras. Only the prediction's is
            used: `(batch, time)`, or the prediction's shape.

    Returns:
        `(batch,)` float32. Its mean is the loss of the batch; its elements are
        each sample's share of it, times the batch size.

    Raises:
        TypeError: If `loss` is none of the above.
        ValueError: If an argument is out of range, shapes don't fit, the loss
            is a Python lambda, or it returns a scalar.

    Examples:
        >>> import numpy as np
        >>> from keras import ops
        >>> layer = BranchLoss("mse", missing="nan")
        >>> loss = layer([np.array([[1.0], [np.nan]]), np.array([[3.0], [5.0]])])
        >>> print(ops.convert_to_numpy(loss))  # mean 4: the labelled row's loss
        [8. 0.]
    """

    def __init__(
        self,
        loss: str | keras.losses.Loss | Callable[[Any, Any], Any],
        *,
        class_weight: Mapping[int, float] | None = None,
        missing: str | float | None = None,
        normalize: str = "valid",
        target_shape: tuple[int | None, ...] | None = None,
        target_dtype: str | None = None,
        branch: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.loss = loss
        self.function = _loss_function(loss)
        self.missing = _check_missing(missing)
        self.normalize = _check.one_of("normalize", normalize, NORMALIZATIONS)
        self.class_weight = check_class_weight("class_weight", class_weight)
        self.target_shape = None if target_shape is None else tuple(target_shape)
        self.target_dtype = target_dtype
        self.branch = branch
        self.supports_masking = True

        kind = _loss_name(loss)
        self.is_sparse = kind in _SPARSE
        self._is_elementwise = kind in _ELEMENTWISE and (
            getattr(loss, "axis", -1) in (-1, None)
        )
        self.kind = "classification" if "crossentropy" in kind.lower() else "regression"
        self._is_keras = self.is_sparse or self._is_elementwise

    def call(self, inputs: Any, mask: Any = None) -> Any:
        y_true, y_pred, sample_weight = self._unpack(inputs)
        mask = mask[1] if isinstance(mask, (list, tuple)) else mask
        y_pred = ops.cast(y_pred, "float32")
        if len(y_pred.shape) == 1:
            y_pred = ops.expand_dims(y_pred, -1)
        y_true = self._align(ops.convert_to_tensor(y_true), y_pred)
        self._check_weights(y_pred, mask=mask, sample_weight=sample_weight)

        # 1. Labels: which are there, and a harmless value for those that aren't.
        labelled, y_true = split_labels(y_true, self.missing)
        if self.is_sparse:
            y_true = ops.cast(y_true, "int32")
        elif self.target_dtype is None:
            y_true = ops.cast(y_true, "float32")
        class_weight = self.weight_of_class(y_true, self.class_weight)

        # 2. Elements: a mask, weight or missing label for each element of the
        # last axis needs the loss of each.
        rank = len(y_pred.shape)
        if self._is_elementwise and (
            labelled is not None
            or (mask is not None and len(mask.shape) == rank)
            or (
                sample_weight is not None
                and len(sample_weight.shape) == rank
                and sample_weight.shape[-1] != 1
            )
        ):
            y_true, y_pred = ops.expand_dims(y_true, -1), ops.expand_dims(y_pred, -1)

        # 3. Validity: 1 where the element counts. Predictions that don't count
        # are replaced too, or a nan there would come back in the gradient.
        valid = _both(mask, labelled, rank=len(y_pred.shape) - 1)
        if valid is not None:
            seen = ops.expand_dims(valid, -1)
            y_pred = ops.where(seen, y_pred, ops.full_like(y_pred, 0.5))

        values = self.function(y_true, y_pred)
        if len(values.shape) == 0:
            raise ValueError(
                f"The loss {_loss_name(self.loss)!r}{self._of_branch()} returned a "
                "scalar: one number for the whole batch. Expected one a sample, "
                "(batch,), or a tensor of them, (batch, ...). Leave out the mean "
                "over the batch: write `ops.mean(..., axis=-1)`, not "
                "`ops.mean(...)`."
            )
        values = ops.cast(values, "float32")
        return self._per_sample(values, valid, sample_weight, class_weight)

    def _per_sample(
        self, values: Any, valid: Any, sample_weight: Any, class_weight: Any
    ) -> Any:
        """Values of elements to `(batch,)`, by the rule of the class docstring."""
        rank = len(values.shape)
        inner_axes = tuple(range(1, rank))
        if valid is not None:
            valid = ops.broadcast_to(_to_rank(valid, rank, ops.any), ops.shape(values))
            values = ops.where(valid, values, ops.zeros_like(values))
        weight = None
        for factor in (sample_weight, class_weight):
            if factor is not None:
                factor = _to_rank(ops.cast(factor, "float32"), rank, ops.mean)
                weight = factor if weight is None else weight * factor
        if weight is not None:
            values = values * weight
            if self.normalize == "keras2":
                not_zero = ops.cast(ops.not_equal(weight, 0), "float32")
                values = _divide(values, ops.mean(not_zero))
        if valid is None:
            return ops.mean(values, axis=inner_axes) if inner_axes else values
        batch = ops.cast(ops.shape(values)[0], "float32")
        count = ops.sum(ops.cast(valid, "float32"))
        total = ops.sum(values, axis=inner_axes) if inner_axes else values
        return _divide(total * batch, count)

    def weight_of_class(
        self, y_true: Any, class_weight: Mapping[int, float] | None
    ) -> Any:
        """The weight of each label's class, or `None` without class weights.

        Args:
            y_true: Targets as this branch takes them, without missing labels.
            class_weight: Dict from class index to weight, or `None`.

        Returns:
            A float32 tensor with one weight a label.
        """
        if not class_weight:
            return None
        y_true = ops.convert_to_tensor(y_true)
        if not self.is_sparse and len(y_true.shape) > 1:
            y_true = (
                ops.squeeze(y_true, -1)
                if y_true.shape[-1] == 1
                else ops.argmax(y_true, axis=-1)
            )
        elif self.is_sparse and len(y_true.shape) > 1 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if keras.backend.is_float_dtype(y_true.dtype):
            y_true = ops.round(ops.where(ops.isnan(y_true), 0.0, y_true))
        size = max(class_weight) + 2  # the last entry is every unnamed class's
        table = np.ones(size, "float32")
        for index, value in class_weight.items():
            table[index] = value
        index = ops.cast(y_true, "int32")
        index = ops.where(index < 0, size - 1, ops.minimum(index, size - 1))
        return ops.take(ops.convert_to_tensor(table), index, axis=0)

    def target_spec(self, prediction: Any) -> tuple[tuple[int | None, ...], str]:
        """Shape, batch axis included, and dtype of this branch's targets."""
        shape = tuple(prediction.shape)
        if self.target_shape is not None:
            shape = (shape[0], *self.target_shape)
        elif self.is_sparse:
            shape = shape[:-1]
        if self.target_dtype is not None:
            return shape, self.target_dtype
        return shape, "int32" if self.is_sparse and self.missing != "nan" else "float32"

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> Any:
        y_true, y_pred, sample_weight = self._unpack(inputs)
        mask = mask[1] if isinstance(mask, (list, tuple)) else mask
        self._check_weights(y_pred, sample_weight=sample_weight)
        try:
            return super().compute_output_spec([y_true, y_pred], mask=[None, mask])
        except Exception as error:
            # Keras rewords what went wrong in `call`; ours and the loss function's
            # own message say more.
            while error.__context__ and str(error).startswith(_REWORDED):
                error = error.__context__  # type: ignore[assignment]
            raise error from None

    def get_config(self) -> dict[str, Any]:
        loss = self.loss
        if not isinstance(loss, str):
            loss = _compat.serialize_loss(loss)
        class_weight = self.class_weight
        return {
            **super().get_config(),
            "loss": loss,
            # JSON has no integer keys.
            "class_weight": class_weight and [list(i) for i in class_weight.items()],
            "missing": self.missing,
            "normalize": self.normalize,
            "target_shape": self.target_shape and list(self.target_shape),
            "target_dtype": self.target_dtype,
            "branch": self.branch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BranchLoss:
        config = dict(config)
        if isinstance(config["loss"], dict):
            config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        if config.get("class_weight"):
            config["class_weight"] = {int(k): v for k, v in config["class_weight"]}
        return cls(**config)

    def _unpack(self, inputs: Any) -> tuple[Any, Any, Any]:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                f"BranchLoss{self._of_branch()} must be called on [y_true, y_pred] or "
                f"[y_true, y_pred, sample_weight]. Received: inputs={inputs}."
            )
        y_true, y_pred = inputs[:2]
        sample_weight = inputs[2] if len(inputs) == 3 else None
        return y_true, y_pred, sample_weight

    def _align(self, y_true: Any, y_pred: Any) -> Any:
        """Gives the target the rank that goes with the prediction's."""
        if self.target_shape is not None:
            return y_true
        rank = len(y_pred.shape) - 1 if self.is_sparse else len(y_pred.shape)
        received = tuple(y_true.shape)
        if len(received) == rank + 1 and received[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        elif len(received) == rank - 1 and (rank == 1 or y_pred.shape[-1] == 1):
            y_true = ops.expand_dims(y_true, -1)
        if self._is_keras:
            expected = tuple(y_pred.shape)[:rank]
            if not _fits(tuple(y_true.shape), expected):
                raise ValueError(
                    f"The target{self._of_branch()} must have the shape {expected} for "
                    f"the loss {_loss_name(self.loss)!r} and a prediction of shape "
                    f"{tuple(y_pred.shape)}. Received a target of shape {received}."
                )
        return y_true

    def _check_weights(self, y_pred: Any, **tensors: Any) -> None:
        shape = tuple(y_pred.shape)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            received = tuple(tensor.shape)
            ok = 1 <= len(received) <= len(shape) and all(
                a is None or b is None or a == b or (name != "mask" and a == 1)
                for a, b in zip(received, shape, strict=False)
            )
            if not ok:
                raise ValueError(
                    f"`{name}`{self._of_branch()} must have the shape (batch,) or a "
                    f"leading part of the prediction's shape, {shape}. "
                    f"Received: {name} of shape {received}."
                )

    def _of_branch(self) -> str:
        return "" if self.branch is None else f" of the branch {self.branch!r}"


@keras.saving.register_keras_serializable(package="lossweigh")
class ValidElements(keras.layers.Layer):
    """1 where a prediction is neither masked nor unlabelled, 0 elsewhere.

    What `compile(metrics=...)` weighs the elements of a branch by, so that
    metrics skip padded steps and missing labels on every backend.

    Args:
        missing: As for `BranchLoss`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: `[y_true, y_pred]`.
        mask: Masks of the inputs, passed by Keras.

    Returns:
        float32, of the prediction's shape without its last axis.
    """

    def __init__(self, missing: str | float | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.missing = _check_missing(missing)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        y_true, y_pred = inputs
        rank = max(len(y_pred.shape) - 1, 1)
        labelled, _ = split_labels(y_true, self.missing)
        valid = _both(None if mask is None else mask[1], labelled, rank)
        if valid is None:
            valid = ops.ones_like(_to_rank(y_pred, rank, ops.any), dtype="bool")
        return ops.cast(valid, "float32")

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "missing": self.missing}


def split_labels(y_true: Any, missing: str | float | None) -> tuple[Any, Any]:
    """Which labels are there, and the labels with 0 for those that aren't.

    Args:
        y_true: Targets of any shape.
        missing: As for `BranchLoss`.

    Returns:
        A bool tensor of the targets' shape, or `None` if no label can be
        missing; and the targets.
    """
    if missing is None:
        return None, y_true
    if missing == "nan":
        if not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(y_true.dtype)
        ):
            return None, y_true  # an integer is never nan
        labelled = ops.logical_not(ops.isnan(y_true))
    else:
        labelled = ops.not_equal(y_true, ops.cast(missing, y_true.dtype))
    return labelled, ops.where(labelled, y_true, ops.zeros_like(y_true))


def check_class_weight(
    name: str, class_weight: Mapping[int, float] | None
) -> dict[int, float] | None:
    """A dict from class index (>= 0) to weight (>= 0), or `None`."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping) or not class_weight:
        raise TypeError(
            f"`{name}` must be a dict from class index to weight, as in "
            f"{{0: 0.5, 1: 4.0}}. Received: {name}={class_weight!r}."
        )
    checked = {}
    for index, value in class_weight.items():
        if isinstance(index, bool) or int(index) != index or index < 0:
            raise ValueError(
                f"`{name}` must have class indices, integers of at least 0, as keys. "
                f"Received the key {index!r} in {name}={dict(class_weight)}."
            )
        checked[int(index)] = _check.not_negative(f"{name}[{index}]", value)
    return checked


def _loss_function(loss: Any) -> Callable[[Any, Any], Any]:
    """What computes the unreduced values: `(y_true, y_pred) -> (batch, ...)`."""
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


def _loss_name(loss: Any) -> str:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return getattr(loss, "__name__", type(loss).__name__)


def _check_missing(missing: Any) -> str | float | None:
    if missing is None or missing == "nan":
        return missing
    if isinstance(missing, float) and missing != missing:
        return "nan"
    if isinstance(missing, (str, bool)):
        raise ValueError(
            "`missing` must be None, 'nan', or the number that marks a missing "
            f"label, such as -1. Received: missing={missing!r}."
        )
    return _check.number("missing", missing)


def _fits(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _both(mask: Any, labelled: Any, rank: int) -> Any:
    """Where an element of `rank` axes is unmasked and labelled; `None` for all."""
    valid = None
    if mask is not None:
        valid = _to_rank(ops.cast(mask, "bool"), rank, ops.any)
    if labelled is not None:
        labelled = _to_rank(labelled, rank, ops.all)
        valid = labelled if valid is None else ops.logical_and(valid, labelled)
    return valid


def _to_rank(tensor: Any, rank: int, reduce: Callable[..., Any]) -> Any:
    """Adds trailing axes of size 1, or reduces trailing axes, to reach `rank`."""
    extra = len(tensor.shape) - rank
    if extra > 0:
        return reduce(tensor, axis=tuple(range(rank, rank + extra)))
    for _ in range(-extra):
        tensor = ops.expand_dims(tensor, -1)
    return tensor


def _divide(numerator: Any, denominator: Any) -> Any:
    """`numerator / denominator`, 0 where the denominator is 0."""
    safe = ops.where(denominator > 0, denominator, 1.0)
    return ops.where(denominator > 0, numerator / safe, ops.zeros_like(numerator))
