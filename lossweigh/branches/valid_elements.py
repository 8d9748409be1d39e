"""`ValidElements`: which elements of a branch a metric may count."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh._types import BranchName, Mask, Tensor
from lossweigh.branches.labels import check_missing, labelled
from lossweigh.branches.masking import combine_masks, intersect_masks, sequence_mask


@keras.saving.register_keras_serializable(package="lossweigh")
class ValidElements(keras.layers.Layer):
    """1 where a prediction is neither masked nor unlabelled, 0 elsewhere.

    What `compile(metrics=...)` weighs the elements of a branch by, so that
    metrics skip padded steps and missing labels on every backend.

    Args:
        missing: As for `BranchLoss`.
        use_mask: Whether the mask that Keras carries counts.
        branch: The branch's name.
        ignored_class: The class index that doesn't count, if there is one.
        elements: Whether each element of the last axis may have a label or not by
            itself. Else a vector counts where all of it does.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: `[y_true, y_pred]`.
        mask: Masks of the inputs, passed by Keras.
        step_mask: A mask or lengths instead, as for `BranchLoss`.

    Returns:
        float32, of the prediction's shape, without its last axis unless `elements`.
    """

    def __init__(
        self,
        missing: str | float | None = None,
        use_mask: bool = True,
        branch: BranchName | None = None,
        ignored_class: int | None = None,
        elements: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.missing = check_missing(missing)
        self.use_mask = use_mask
        self.branch = branch
        self.ignored_class = ignored_class
        self.elements = elements
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None, step_mask: Mask = None) -> Tensor:
        y_true, y_pred = inputs
        rank = len(y_pred.shape)
        rank = rank if self.elements else max(rank - 1, 1)
        mask = mask[1] if mask is not None and self.use_mask else None
        if step_mask is not None:
            mask = sequence_mask(step_mask, y_pred)
        label_masks = [
            labelled(y_true, mark) for mark in (self.missing, self.ignored_class)
        ]
        valid = combine_masks(mask, intersect_masks(*label_masks), rank)
        shape = ops.shape(y_pred)[:rank]
        if valid is None:
            return ops.ones(shape, "float32")
        valid = ops.cast(valid, "float32")
        return valid if valid.shape == shape else ops.broadcast_to(valid, shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "missing": self.missing,
            "use_mask": self.use_mask,
            "branch": self.branch,
            "ignored_class": self.ignored_class,
            "elements": self.elements,
        }
