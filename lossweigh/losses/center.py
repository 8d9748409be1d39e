"""Wen, Zhang, Li & Qiao: features near the centre of their class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _backend, _check, _replicas
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.branches import TargetSpec
from lossweigh.losses import _shapes


@keras.saving.register_keras_serializable(package="lossweigh")
class Center(keras.layers.Layer, TargetSpec):
    """Pulls features to the centre of their class, which follows them.

        L_i = |x_i - c_{y_i}|^2 / 2

    with the features `x_i` and the class `y_i` of sample `i`, and a centre `c_j`
    for each class. The optimizer doesn't train the centres. Each step of training moves
    them:

        c_j <- c_j - alpha sum_{i: y_i = j} (c_j - x_i) / (1 + n_j)

    with `n_j` the number of the batch's samples of class `j`, and `alpha` the
    centres' learning rate. A class that isn't in the batch keeps its centre. The loss
    uses the centres from before the step, and its gradient goes to the features only.
    Centres start at 0 and are saved with the model.

    Use it beside a classification loss of the same features, which keeps the centres
    apart: alone, it is smallest where all features are equal. The paper sums over the
    batch, and we take the mean, so multiply the paper's weight of 0.003 by the batch
    size.

    Args:
        num_classes: Number of classes.
        learning_rate: Float from 0, fixed centres, to 1: `alpha`.
        **kwargs: Passed to `keras.layers.Layer`. The layer computes in float32
            whatever the global policy. With `trainable=False` centres stay.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, class indices from 0.
        y_pred: Features, `(batch, features)`.
        valid: Bool, `(batch,)`: which rows count, in the loss and in the centres.
            `None` if all do. Sample weights weigh the loss, not the centres.
        training: Bool. Centres move in training only.

    Returns:
        `(batch,)` float32.

    Raises:
        ValueError: If an argument is out of range or tensors don't have these
            shapes; from `check_target`, for an index that no class has.

    Examples:
        >>> from keras import ops
        >>> layer = Center(2)
        >>> loss = layer(ops.array([0, 0]), ops.array([[3.0], [6.0]]), training=True)
        >>> print(ops.convert_to_numpy(loss))
        [ 4.5 18. ]
        >>> print(ops.convert_to_numpy(layer.centers))  # 0.5 * (3 + 6) / (1 + 2)
        [[1.5]
         [0. ]]

    Reference:
        Y. Wen, K. Zhang, Z. Li, Y. Qiao. A discriminative feature learning approach
        for deep face recognition. ECCV 2016, equations 2 to 4.
    """

    def __init__(
        self, num_classes: int, *, learning_rate: float = 0.5, **kwargs: Any
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_classes = _check.whole("num_classes", num_classes, 1)
        self.learning_rate = _check.between("learning_rate", learning_rate, 0.0, 1.0)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        shape = _shapes.one_output("Center", prediction)
        _shapes.vectors(features=shape)
        return shape[:1], "int32"

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        wrong = (target < 0) | (target >= self.num_classes) | (target % 1 != 0)
        if wrong.any():
            raise ValueError(
                f"The target of the branch {branch!r} must hold class indices, whole "
                f"numbers from 0 to {self.num_classes - 1}. Received "
                f"{target[wrong][0]}, and in all numbers from {target.min()} to "
                f"{target.max()}. Has `Center` the right `num_classes`?"
            )

    def build(self, y_true_shape: Any, y_pred_shape: Any) -> None:
        _shapes.vectors(features=y_pred_shape)
        self.centers = self.add_weight(
            name="centers",
            shape=(self.num_classes, y_pred_shape[1]),
            initializer="zeros",
            trainable=False,
            aggregation="mean",
        )

    @_backend.not_compiled  # as `AdaptiveWeighter`: a step moves what it reads
    def call(
        self, y_true: Tensor, y_pred: Tensor, valid: Mask = None, training: bool = False
    ) -> Tensor:
        classes = ops.cast(_shapes.number_a_sample("y_true", y_true), "int32")
        if valid is None:
            valid = ops.ones_like(classes, dtype="bool")
        classes = ops.where(valid, classes, 0)
        # The centres are read once: all that follows is of the same ones.
        centers = self.centers * 1.0
        away = y_pred - ops.take(centers, classes, axis=0)
        away = ops.where(ops.expand_dims(valid, 1), away, 0.0)
        if training and self.trainable:
            counted = ops.cast(ops.expand_dims(valid, 1), "float32")
            number = ops.segment_sum(counted, classes, num_segments=self.num_classes)
            pull = ops.segment_sum(
                ops.stop_gradient(away), classes, num_segments=self.num_classes
            )
            number, pull = _replicas.totals([number, pull])
            self.centers.assign(centers + self.learning_rate * pull / (1.0 + number))
        return 0.5 * ops.sum(ops.square(away), axis=-1)

    def compute_output_shape(
        self, y_true_shape: Any, y_pred_shape: Any
    ) -> tuple[int | None]:
        return (y_pred_shape[0],)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "learning_rate": self.learning_rate,
        }
