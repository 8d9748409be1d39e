"""`TargetFreeLoss`: a loss of outputs and inputs that needs no target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from lossweigh._types import BranchName, Mask, Tensor
from lossweigh.branches.base import Branch
from lossweigh.branches.masked_loss import MaskedLoss, shares_of_samples
from lossweigh.branches.masking import (
    combine_masks,
    in_float32,
    per_sample,
    replace_invalid,
)
from lossweigh.branches.signatures import build_loss, check_tensors
from lossweigh.points.base import PointWeights


@keras.saving.register_keras_serializable(package="lossweigh")
class TargetFreeLoss(Branch):
    """A loss without a target, as a layer: tensors in, `(batch,)` float32 out.

    It serves where outputs and inputs suffice: the ranking of two scores, the distance
    of two views, a penalty on an activation, an autoencoder's reconstruction of its
    input. The branch is weighted, balanced and logged like any other, with sample
    weights by its name.

    Args:
        loss: As for `BranchLoss`; it is called on the tensors of `of` in their
            order. A Keras loss of two, as `"mse"`, works too: the first is its
            `y_true`. A layer is called on the tensors and `valid`.
        of: Names of the outputs and inputs of the prediction model that the loss
            looks at. Default: the output with the branch's name.
        mask: As for `BranchLoss`; Keras's own mask comes from the first tensor.
        normalize: As for `BranchLoss`.
        point_weights: As for `BranchLoss`.
        branch: The name of the branch; `build_training_model` sets it.
        **kwargs: Passed to `keras.layers.Layer`. The layer computes in float32.

    Call arguments:
        inputs: `[tensors]` or `[tensors, sample_weight]`: a list of the tensors,
            `(batch, ...)` each, and a weight as for `BranchLoss`.
        mask: Masks of the inputs, passed by Keras.
        step_mask: The tensor that `mask=` names.
        training: As for `BranchLoss`.

    Returns:
        `(batch,)` float32, as `BranchLoss`.

    Raises:
        TypeError, ValueError: As `BranchLoss`.

    Examples:
        >>> import numpy as np
        >>> from keras import ops
        >>> layer = TargetFreeLoss("mse", of=["image", "decoded"])
        >>> print(ops.convert_to_numpy(layer([[np.zeros((2, 3)), np.ones((2, 3))]])))
        [1. 1.]
    """

    def __init__(
        self,
        loss: str | keras.losses.Loss | keras.layers.Layer | Callable[..., Any],
        *,
        of: str | int | Sequence[str | int] | None = None,
        mask: str | bool | None = None,
        normalize: str = "valid",
        point_weights: PointWeights | None = None,
        branch: BranchName | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            loss,
            of=of,
            mask=mask,
            normalize=normalize,
            point_weights=point_weights,
            branch=branch,
            **kwargs,
        )

    @property
    def target(self) -> None:
        return None

    def pack(
        self, target: Tensor, predictions: list[Tensor], sample_weight: Tensor
    ) -> Any:
        return [predictions, sample_weight]

    def build(self, input_shape: Any) -> None:
        check_tensors(self._what(), self, len(input_shape[0]))
        build_loss(self.loss, *input_shape[0])
        self.built = True

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        step_mask: Mask = None,
        training: bool = False,
    ) -> Tensor:
        tensors, sample_weight = self._unpack(inputs)
        mask = next(iter(mask[0] or [None])) if isinstance(mask, list) else None
        mask = self.find_mask(mask, step_mask, tensors[0])
        tensors = [in_float32(tensor) for tensor in tensors]
        self.check_weights(tensors[0], mask=mask, sample_weight=sample_weight)
        if isinstance(self.loss, MaskedLoss):
            values = self.sample_values(*tensors, valid=mask, weight=sample_weight)
            values = self.check_values(values)
            return shares_of_samples(
                values, mask, [sample_weight], self.normalize, training
            )
        valid = combine_masks(mask, None, max(len(tensors[0].shape) - 1, 1))
        if valid is not None:
            tensors = [
                replace_invalid(tensor, valid)
                if len(tensor.shape) >= len(valid.shape)
                else tensor
                for tensor in tensors
            ]
        if isinstance(self.loss, keras.layers.Layer):
            values = self.loss(*tensors, valid)
        else:
            values = self.evaluate(*tensors)
        values = self.check_values(values)
        return per_sample(values, valid, [sample_weight], self.normalize, training)

    def compute_output_spec(
        self,
        inputs: Any,
        mask: Any = None,
        step_mask: Mask = None,
        training: bool = False,
    ) -> Any:
        tensors, sample_weight = self._unpack(inputs)
        self.check_weights(tensors[0], sample_weight=sample_weight)
        return self.outline([tensors], mask, step_mask=step_mask)

    def _unpack(self, inputs: Any) -> tuple[list[Any], Any]:
        if (
            not isinstance(inputs, (list, tuple))
            or len(inputs) not in (1, 2)
            or not isinstance(inputs[0], (list, tuple))
            or not inputs[0]
        ):
            raise ValueError(
                f"TargetFreeLoss{self._of_branch()} must be called on [tensors] or "
                f"[tensors, sample_weight], tensors a list. Received: inputs={inputs}."
            )
        return list(inputs[0]), inputs[1] if len(inputs) == 2 else None
