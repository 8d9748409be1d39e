"""What a branch knows of its target: name, shape, labels and classes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from lossweigh._types import Mask, Shape, Tensor
from lossweigh.branches.arguments import is_name
from lossweigh.branches.base import Branch
from lossweigh.branches.keras_losses import (
    axis_of,
    ignored_class,
    is_binary,
    is_elementwise,
    is_hinge,
    is_sparse,
    num_classes,
    other_target_shape,
    takes_probabilities,
)
from lossweigh.branches.labels import (
    check_class_range,
    check_class_weight,
    check_missing,
    split_labels,
    weight_of_class,
)
from lossweigh.branches.loss_resolution import loss_name
from lossweigh.branches.masking import fit_target_rank, fits, intersect_masks
from lossweigh.branches.target_spec import (
    TargetSpec,
    checked_shape,
    infer_target_spec,
    without,
)


class TargetBranch(Branch, abc.ABC):
    """A branch whose loss has a target.

    Abstract: `BranchLoss` computes the loss.
    """

    def set_target(
        self,
        target: str | int | None,
        class_weight: Mapping[int, float] | None,
        missing: str | float | None,
        target_shape: Shape | None,
        target_dtype: str | None,
    ) -> None:
        """Checks and keeps what the arguments and the loss say about the target.

        Args:
            target: As for `BranchLoss`.
            class_weight: Likewise.
            missing: Likewise.
            target_shape: Likewise.
            target_dtype: Likewise.
        """
        if target is not None and not is_name(target):
            raise TypeError(
                "`target` must be the name of the target in `fit`'s `y`. "
                f"Received: target={target!r}. (A loss without a target is a "
                "`TargetFreeLoss`.)"
            )
        loss = self.loss
        self.target_name = None if target is None else str(target)
        self.missing = check_missing(missing)
        known_shape = other_target_shape(loss)
        if known_shape is not None:
            target_shape = known_shape if target_shape is None else target_shape
            target_dtype = target_dtype or "int32"
        self.target_shape = checked_shape(target_shape)
        self.target_dtype = target_dtype

        self._is_elementwise = is_elementwise(loss)
        self._is_keras = is_sparse(loss) or self._is_elementwise
        self.is_sparse = is_sparse(loss) or getattr(loss, "is_sparse", False)
        self._is_binary = is_binary(loss)
        self.takes_probabilities = takes_probabilities(loss)
        self.class_axis = axis_of(loss) if isinstance(axis_of(loss), int) else -1
        self.has_classes_last = True  # until the prediction's rank is known
        self.ignored_class = ignored_class(loss)
        self.num_classes = num_classes(loss, None)
        self.class_weight = check_class_weight("class_weight", class_weight)
        if self.class_weight:
            self.check_classes("class_weight", self.class_weight)

    @property
    def target(self) -> str:
        if self.target_name is not None:
            return self.target_name
        return self.source_names[0] if len(self.source_names) == 1 else str(self.branch)

    def has_elements(self, prediction: Tensor, target: Tensor) -> bool:
        same = len(target.shape) == len(prediction.shape)
        return bool(self._is_elementwise and same and prediction.shape[-1] != 1)

    def check_classes(self, argument: str, weights: Mapping[int, float]) -> None:
        """Refuses class weights for classes that don't exist.

        Args:
            argument: The name of the argument, for the message.
            weights: From class index to weight.
        """
        argument = f"`{argument}`{self._of_branch()}"
        has_classes = (
            self.task_type == "classification"
            or self.is_sparse
            or isinstance(self.loss, TargetSpec)
            or "int" in (self.target_dtype or "")
        )
        check_class_range(
            argument, self.loss, weights, self.num_classes, has_classes=has_classes
        )

    def _labels(self, y_true: Tensor) -> tuple[Mask, Tensor]:
        labelled, y_true = split_labels(y_true, self.missing)
        if self.ignored_class is not None:
            counts, y_true = split_labels(y_true, self.ignored_class)
            labelled = intersect_masks(labelled, counts)
        if self.is_sparse:
            return labelled, ops.cast(y_true, "int32")
        if self.target_dtype is None and not isinstance(self.loss, TargetSpec):
            y_true = ops.cast(y_true, "float32")
        return labelled, y_true

    def weight_of_class(
        self, y_true: Tensor, class_weight: Mapping[int, float] | None
    ) -> Tensor:
        """The weight of each label's class, or `None` without class weights.

        Args:
            y_true: Targets as this branch takes them, without missing labels.
            class_weight: Dict from class index to weight, or `None`.

        Returns:
            A float32 tensor with one weight a label.
        """
        axis = None if self.is_sparse or self._is_binary else self.class_axis
        if is_hinge(self.loss):  # whose classes are -1 and 1, or 0 and 1
            axis, y_true = None, ops.maximum(y_true, 0)
        return weight_of_class(y_true, class_weight, axis)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        """Shape, batch axis included, and dtype of this branch's targets.

        Args:
            prediction: What the loss looks at: a tensor, or a list of several.
        """
        return infer_target_spec(
            prediction,
            self.loss,
            is_sparse=self.is_sparse,
            class_axis=self.class_axis,
            target_shape=self.target_shape,
            target_dtype=self.target_dtype,
            may_be_nan=self.missing == "nan",
        )

    def pack(
        self, target: Tensor, predictions: list[Tensor], sample_weight: Tensor
    ) -> Any:
        prediction = predictions[0] if len(predictions) == 1 else predictions
        return [target, prediction, sample_weight]

    def compute_output_spec(
        self,
        inputs: Any,
        mask: Any = None,
        step_mask: Mask = None,
        training: bool = False,
    ) -> Any:
        y_true, y_pred, sample_weight = self._unpack(inputs)
        first = y_pred[0] if isinstance(y_pred, (list, tuple)) else y_pred
        self.check_weights(first, sample_weight=sample_weight)
        mask = mask[1] if isinstance(mask, (list, tuple)) else mask
        # A weight, which may be None, changes no shape.
        return self.outline([y_true, y_pred], [None, mask], step_mask=step_mask)

    def _values(self, y_true: Tensor, y_preds: list[Tensor], valid: Mask) -> Tensor:
        if isinstance(self.loss, keras.layers.Layer):
            return self.loss(y_true, *y_preds, valid)
        of_classes = self._is_keras and self.is_sparse and self.class_axis == -1
        if of_classes and len(y_preds[0].shape) == 4:
            # Keras's loss of images has no gradient on torch (docs/upstream).
            shape = ops.shape(y_preds[0])
            y_true = ops.reshape(y_true, (shape[0], -1))
            y_pred = ops.reshape(y_preds[0], (shape[0], -1, shape[-1]))
            return ops.reshape(self.evaluate(y_true, y_pred), shape[:-1])
        return self.evaluate(y_true, *y_preds)

    def _unpack(self, inputs: Any) -> tuple[Any, Any, Any]:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                f"BranchLoss{self._of_branch()} must be called on [y_true, y_pred] or "
                f"[y_true, y_pred, sample_weight]. Received: inputs={inputs}."
            )
        y_true, y_pred = inputs[:2]
        sample_weight = inputs[2] if len(inputs) == 3 else None
        return y_true, y_pred, sample_weight

    def _aligned(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The target with the rank that goes with the prediction's."""
        if self.target_shape is not None:
            return y_true
        shape = tuple(y_pred.shape)
        expected = without(shape, self.class_axis) if self.is_sparse else shape
        aligned = fit_target_rank(y_true, len(expected), column=shape[-1] == 1)
        if self._is_keras and not fits(tuple(aligned.shape), expected):
            raise self._wrong_target(expected, y_true, f" and a prediction of {shape}")
        return aligned

    def _wrong_target(
        self, expected: Any, y_true: Tensor, also: str = ""
    ) -> ValueError:
        return ValueError(
            f"The target{self._of_branch()} must have the shape {expected} for the "
            f"loss {loss_name(self.loss)!r}{also}. Received a target of shape "
            f"{tuple(y_true.shape)}."
        )

    def get_config(self) -> dict[str, Any]:
        class_weight = self.class_weight
        return {
            **super().get_config(),
            "target": self.target_name,
            # JSON has no integer keys.
            "class_weight": class_weight and [list(i) for i in class_weight.items()],
            "missing": self.missing,
            "target_shape": self.target_shape and list(self.target_shape),
            "target_dtype": self.target_dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        if config.get("class_weight"):
            config["class_weight"] = {int(k): v for k, v in config["class_weight"]}
        return super().from_config(config)
