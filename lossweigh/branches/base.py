"""The base of a branch's loss as a layer: tensors in, `(batch,)` float32 out."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check, _compat
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.branches import results
from lossweigh.branches.arguments import check_mask, given_points, names_of
from lossweigh.branches.keras_losses import infer_task_type
from lossweigh.branches.loss_resolution import (
    as_loss,
    is_of_the_user,
    loss_function,
    loss_name,
)
from lossweigh.branches.masked_loss import MaskedLoss
from lossweigh.branches.masking import match_rank, sequence_mask
from lossweigh.branches.target_spec import TargetSpec
from lossweigh.branches.trial import try_out
from lossweigh.points.base import PointWeights


class Branch(keras.layers.Layer, abc.ABC):
    """A loss under a name, and the tensors that it is computed from.

    Abstract: `BranchLoss` has a target, `TargetFreeLoss` has none.

    Args:
        loss: What computes the loss.
        of: Names of the tensors that the loss looks at, outputs or inputs of the
            prediction model; `None` for the output of the branch's name.
        mask: What says which time steps are real: `None`, the mask that Keras
            carries; the name of an input or output of the prediction model; or
            `False`, every step is.
        normalize: `"valid"` or `"keras2"`.
        point_weights: What weighs the points; the training model applies it.
        branch: The branch's name, set by `build_training_model`.
        **kwargs: Passed to `keras.layers.Layer`.

    Attributes:
        task_type: `"regression"` or `"classification"`, by the loss.
        is_sparse: Whether targets are class indices.
        lost_mask: Whether a mask that doesn't arrive is an error.
    """

    is_sparse = False

    def __init__(
        self,
        loss: Any,
        *,
        of: str | int | Sequence[str | int] | None,
        mask: str | bool | None,
        normalize: str,
        point_weights: PointWeights | None,
        branch: BranchName | None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.loss = loss = as_loss(loss)
        self.function: Callable[..., Any] = loss_function(loss)
        self.of = names_of(of)
        self.mask_name = check_mask(mask)
        self.normalize = _check.one_of("normalize", normalize, ("valid", "keras2"))
        self.points = given_points(point_weights)
        self.branch = branch
        self.supports_masking = True
        self.lost_mask = False
        self.mask_started = False
        self.task_type = infer_task_type(loss)
        # What `try_out` finds, and the size that a batch has while it does.
        self.rows: int | None = None
        self.shape: Shape = ()
        self.loses_time = False
        self.takes_no_mask = not isinstance(
            loss, (MaskedLoss, TargetSpec, keras.layers.Layer)
        )
        self._is_of_the_user = is_of_the_user(self.function)

    @property
    @abc.abstractmethod
    def target(self) -> str | None:
        """The name of the target, `None` where there is none."""

    @property
    def source_names(self) -> list[str]:
        """The names of the tensors that the loss looks at."""
        return [str(self.branch)] if self.of is None else self.of

    def expect_mask(self) -> None:
        """Notes that the prediction model starts a mask: a missing one was lost.

        That is an error for a loss over time steps, and a warning for another one.
        """
        self.mask_started = True
        self.lost_mask = (
            isinstance(self.loss, MaskedLoss)
            and self.loss.over_time
            and self.mask_name is None
        )

    @abc.abstractmethod
    def pack(
        self, target: Tensor, predictions: list[Tensor], sample_weight: Tensor
    ) -> Any:
        """The layer's `inputs` of a branch's target, predictions and weights."""

    def find_mask(self, mask: Mask, step_mask: Mask, prediction: Tensor) -> Mask:
        """The mask in force: the one that was named, or the one that Keras carries."""
        mask = self._mask_in_force(mask, step_mask, prediction)
        if mask is not None and self.loses_time and self.rows is None:
            raise ValueError(
                f"{self._what()} gives values without an axis of time, so that padded "
                "steps can't be left out. Write it as a `lossweigh.MaskedLoss`, whose "
                "`values` is told which steps are real, or say `mask=False` if each "
                "step counts."
            )
        return mask

    def _mask_in_force(self, mask: Mask, step_mask: Mask, prediction: Tensor) -> Mask:
        if step_mask is not None:
            if len(prediction.shape) < 2:
                raise ValueError(
                    f"`mask`{self._of_branch()} is for predictions with time steps, "
                    "(batch, time, ...). Received a prediction of shape "
                    f"{tuple(prediction.shape)}."
                )
            return sequence_mask(step_mask, prediction)
        if self.mask_name is False:
            return None
        if mask is None and self.lost_mask and self.rows is None:
            raise ValueError(results.lost_mask(self._of_branch(), self.loss))
        has_steps = len(prediction.shape) > 2
        if mask is None and self.mask_started and has_steps and self.rows is None:
            self.mask_started = False  # once
            warnings.warn(results.no_mask(self._of_branch(), self.loss), stacklevel=2)
        return mask

    def has_elements(self, prediction: Tensor, target: Tensor) -> bool:
        """Whether each element of the last axis has a label and a loss of its own.

        Args:
            prediction: The tensor, or tensors, that the loss looks at.
            target: The target, `None` where there is none.
        """
        return False

    def count(self, valid: Mask) -> Tensor:
        """How many elements, or samples, a batch's loss is the mean of.

        Args:
            valid: What `ValidElements` gives.
        """
        valid = valid > 0
        if not self.takes_no_mask or len(self.source_names) > 1:
            valid = match_rank(valid, 1, ops.any)
        return ops.sum(ops.cast(valid, "float32"))

    def outline(self, inputs: Any, mask: Any, **kwargs: Any) -> Any:
        """The symbolic output, with the errors of `call` as they were raised."""
        return try_out(self, super().compute_output_spec, inputs, mask, kwargs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        loss = self.loss
        if not isinstance(loss, str):
            loss = _compat.serialize_loss(loss)
        return {
            **super().get_config(),
            "loss": loss,
            "of": self.of,
            "mask": self.mask_name,
            "normalize": self.normalize,
            "point_weights": self.points.get_config(),
            "branch": self.branch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        for key in ("loss", "point_weights"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)

    def check_values(self, values: Tensor) -> Tensor:
        """The loss's values as float32; one for each sample, or more, or an error."""
        self.shape = tuple(values.shape)
        results.check_result(self._what(), self.loss, tuple(values.shape), self.rows)
        return ops.cast(values, "float32")

    def evaluate(self, *tensors: Tensor) -> Tensor:
        """What a function gives for some tensors.

        A network that it calls runs in inference, as in Keras's own `fit`.
        """
        if not self._is_of_the_user and self.rows is None:
            try:
                return self.function(*tensors)
            except IndexError as error:  # torch's, of the batch of a data set
                raise ValueError(results.no_class(self._what(), error)) from error
        try:
            with _compat.in_inference(self):
                return self.function(*tensors)
        except Exception as error:
            if self.rows is None:
                raise
            raise ValueError(results.failure(self._what(), tensors, error)) from error

    def sample_values(self, *tensors: Tensor, valid: Mask, weight: Tensor) -> Tensor:
        """What a `MaskedLoss` gives; networks in it run in inference."""
        if not is_of_the_user(self.loss.sample_values):
            return self.loss.sample_values(*tensors, valid=valid, weight=weight)
        with _compat.in_inference(self):
            return self.loss.sample_values(*tensors, valid=valid, weight=weight)

    def check_weights(self, prediction: Tensor, **tensors: Any) -> None:
        """Masks and weights are `(batch,)` or a leading part of the prediction."""
        results.check_weight_shapes(self._of_branch(), tuple(prediction.shape), tensors)

    def _what(self) -> str:
        return f"The loss {loss_name(self.loss)!r}{self._of_branch()}"

    def _of_branch(self) -> str:
        return "" if self.branch is None else f" of the branch {self.branch!r}"
