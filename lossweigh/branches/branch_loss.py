"""`BranchLoss`: any loss, mask and weight, to one float32 number a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _compat
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.branches.keras_losses import (
    may_mask_values,
    num_classes,
)
from lossweigh.branches.masked_loss import MaskedLoss, shares_of_samples
from lossweigh.branches.masking import (
    combine_masks,
    fit_target_rank,
    fits,
    in_float32,
    intersect_masks,
    match_rank,
    per_sample,
    product,
    replace_invalid,
    weighs_elements,
)
from lossweigh.branches.results import classes_not_last
from lossweigh.branches.signatures import build_loss, check_tensors
from lossweigh.branches.target_branch import TargetBranch
from lossweigh.branches.target_spec import TargetSpec
from lossweigh.points.base import PointWeights


@keras.saving.register_keras_serializable(package="lossweigh")
class BranchLoss(TargetBranch):
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
        loss: A Keras loss name, a `keras.losses.Loss`, one of `lossweigh.losses`, or
            a named function `(y_true, y_pred)` that returns one value a sample or a
            tensor of them, `(batch, ...)`. A function of your own is reloaded by
            its name: decorate it with
            `@keras.saving.register_keras_serializable()`. A Python lambda can't be
            reloaded and is refused. A loss with weights of its own is a
            `keras.layers.Layer`, which is called as `loss(y_true, y_pred, valid)`
            and gives `(batch,)`; `valid` is bool, `(batch,)`, or `None`.
        of: The name of the output that the loss looks at. Default: the output with the
            branch's name. Or a list of names, of outputs and inputs: the loss is then
            called on the target and each of them, `loss(y_true, first, second)`.
        target: The name of the target in `fit`'s `y`. Branches may share one.
            Default: the output's name, or the branch's name for several outputs.
        mask: Where the time steps of a sequence are real. Default: the mask that
            Keras carries from a `Masking` or `Embedding` layer. Or the name of an
            input or output of the prediction model that holds a mask
            `(batch, time)`, or lengths `(batch,)` with the real steps first; or
            `False`: every step is real.
        class_weight: Optional dict from class index to weight; classes it
            doesn't name weigh 1. The class is the target itself if it is an index, the
            `argmax` of a one-hot target, or the value, 0 or 1, of a binary one: at each
            time step, pixel or label. A regression has no classes, and a loss of your
            own is one unless its attribute `task_type` is `"classification"`.
        missing: What marks a label as missing: `None` (no label is), `"nan"`,
            or a number such as `-1`. A vector label of a loss that needs the
            whole vector (a cross-entropy over classes) counts as missing where
            any of its elements is.
        normalize: `"valid"` or `"keras2"`, see above.
        target_shape: Optional shape of a sample's target, for a loss of your
            own whose target isn't shaped like the prediction. Default for a loss
            of several outputs: `()`, a number; `(1,)` where one is `(batch, 1)`.
        target_dtype: Optional dtype of the target, likewise.
        point_weights: Weights for single points, the rows of a training set, such as
            `lossweigh.points.ResidualAttention(...)`. The training model applies them.
        branch: The name of the branch; `build_training_model` sets it.
        **kwargs: Passed to `keras.layers.Layer`. The layer computes in float32
            whatever the global policy.

    Call arguments:
        inputs: `[y_true, y_pred]` or `[y_true, y_pred, sample_weight]`.
            `y_pred` is `(batch, ...)`, or a list; `y_true` has its shape, or lacks
            its last axis for class indices; `sample_weight` is `(batch,)`,
            `(batch, 1)`, or has any leading part of the prediction's shape.
        mask: Masks of the inputs, passed by Keras. Only the prediction's is
            used: `(batch, time)`, or the prediction's shape.
        step_mask: The tensor that `mask=` names.
        training: Bool. In training the replicas of a model count their elements
            together.

    Returns:
        `(batch,)` float32. Its mean is the loss of the batch; its elements are
        each sample's share of it, times the batch size.

    Raises:
        TypeError: If `loss` is none of the above.
        ValueError: If an argument is out of range, shapes don't fit, the loss
            is a Python lambda, it returns a scalar, or it needs a mask that was lost
            on its way.

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
        loss: str | keras.losses.Loss | keras.layers.Layer | Callable[..., Any],
        *,
        of: str | int | Sequence[str | int] | None = None,
        target: str | int | None = None,
        mask: str | bool | None = None,
        class_weight: Mapping[int, float] | None = None,
        missing: str | float | None = None,
        normalize: str = "valid",
        target_shape: Shape | None = None,
        target_dtype: str | None = None,
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
        self.set_target(target, class_weight, missing, target_shape, target_dtype)

    def build(self, input_shape: Any) -> None:
        target, first = (*input_shape, ())[:2]
        shapes = [first]
        if any(isinstance(size, (list, tuple)) for size in first):
            shapes = list(first)  # of several outputs
        elif first:
            self.num_classes = num_classes(self.loss, first[self.class_axis])
            self.has_classes_last = self.class_axis in (-1, len(first) - 1)
        if self.class_weight:
            self.check_classes("class_weight", self.class_weight)
        check_tensors(self._what(), self, len(shapes))
        build_loss(self.loss, target, *shapes)
        self.built = True

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        step_mask: Mask = None,
        training: bool = False,
    ) -> Tensor:
        y_true, y_pred, sample_weight = self._unpack(inputs)
        y_true = ops.convert_to_tensor(y_true)
        mask = mask[1] if isinstance(mask, (list, tuple)) else mask
        if isinstance(y_pred, (list, tuple)):
            mask = self.find_mask(next(iter(mask or [None])), step_mask, y_pred[0])
            return self._several(y_true, list(y_pred), sample_weight, mask, training)
        mask = self.find_mask(mask, step_mask, y_pred)
        if isinstance(self.loss, (MaskedLoss, TargetSpec)):
            return self._several(y_true, [y_pred], sample_weight, mask, training)
        y_pred = ops.cast(y_pred, "float32")
        if len(y_pred.shape) == 1:
            y_pred = ops.expand_dims(y_pred, -1)
        y_true = self._aligned(y_true, y_pred)
        self.check_weights(y_pred, mask=mask, sample_weight=sample_weight)

        # 1. Labels: which exist, and a harmless value for missing ones.
        labelled, y_true = self._labels(y_true)
        class_weight = self.weight_of_class(y_true, self.class_weight)

        # 2. Elements: a mask, weight or missing label for each element of the
        # last axis needs the loss of each.
        rank = len(y_pred.shape)
        if (self._is_elementwise and y_pred.shape[-1] != 1) and (
            labelled is not None
            or (mask is not None and len(mask.shape) == rank)
            or weighs_elements(sample_weight, rank)
            or weighs_elements(class_weight, rank)
        ):
            y_true, y_pred = ops.expand_dims(y_true, -1), ops.expand_dims(y_pred, -1)

        # 3. Validity: 1 where the element counts.
        valid = combine_masks(mask, labelled, rank=len(y_pred.shape) - 1)
        if valid is not None:
            if not self.has_classes_last:
                what = f"`mask` and missing labels{self._of_branch()}"
                raise ValueError(classes_not_last(what, self.class_axis))
            y_pred = replace_invalid(y_pred, valid)
        values = self._values(y_true, [y_pred], valid)
        if may_mask_values(self.loss):
            valid = intersect_masks(valid, _compat.keras_mask(values))
        values = self.check_values(values)
        weights = [sample_weight, class_weight]
        return per_sample(values, valid, weights, self.normalize, training)

    def _several(
        self,
        y_true: Tensor,
        y_preds: list[Tensor],
        sample_weight: Tensor,
        mask: Mask,
        training: bool,
    ) -> Tensor:
        """For a loss of several outputs, or one that knows its targets and masks."""
        y_preds = [in_float32(tensor) for tensor in y_preds]
        self.check_weights(y_preds[0], mask=mask, sample_weight=sample_weight)
        expected, _ = self.target_spec(y_preds if len(y_preds) > 1 else y_preds[0])
        y_true = fit_target_rank(y_true, len(expected), column=expected[-1] == 1)
        if not fits(tuple(y_true.shape), expected):
            raise self._wrong_target(expected, y_true)
        labelled, y_true = self._labels(y_true)
        if labelled is not None and isinstance(self.loss, TargetSpec):
            labelled = match_rank(
                labelled, 1, ops.all
            )  # its target is a sample's, whole
        weights = [sample_weight, self.weight_of_class(y_true, self.class_weight)]
        if isinstance(self.loss, MaskedLoss):
            valid = intersect_masks(mask, labelled)
            weight = product(*weights)
            values = self.sample_values(y_true, *y_preds, valid=valid, weight=weight)
            values = self.check_values(values)
            return shares_of_samples(values, valid, [weight], self.normalize, training)
        valid = combine_masks(mask, labelled, 1)
        if valid is not None:
            y_preds = [replace_invalid(tensor, valid) for tensor in y_preds]
        values = self.check_values(self._values(y_true, y_preds, valid))
        return per_sample(values, valid, weights, self.normalize, training)
