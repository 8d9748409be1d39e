"""Su Jianlin: word vectors whose inner product is the mutual information."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import BranchName, Shape, Tensor
from lossweigh.branches import TargetSpec
from lossweigh.losses import _shapes


@keras.saving.register_keras_serializable(package="lossweigh")
class PointwiseMutualInformation(keras.losses.Loss, TargetSpec):
    """The squared error of the pointwise mutual information, a simpler GloVe.

        L = (s_ij - log(P_ij / (P_i P_j)))^2,    s_ij = <v_i, v_j>
        P_ij = X_ij / X,    P_i = X_i / X,    P_j = X_j / X

    with `X_ij` how often the words i and j occur together, `X_i` and `X_j` the sums
    of their row and column of counts, `X` the sum of all, `v` the words' vectors,
    and `s_ij`, the prediction, which the model computes. There are no biases, so
    the vectors' lengths and angles mean something: GloVe's biases can undo a vector
    that is added to all of its vectors. A pair with a count of 0 in its target has a
    loss and a gradient of 0.

    The target holds the three counts, not the logarithm, so that batches can come
    from the non-zero elements of a sparse matrix:

        counts = scipy.sparse.coo_array(counts)  # (words, words)
        rows, columns = counts.sum(axis=1), counts.sum(axis=0)
        x = {"word": counts.row, "context": counts.col}
        y = np.stack([counts.data, rows[counts.row], columns[counts.col]], axis=1)
        loss = PointwiseMutualInformation(counts.sum())

    All pairs weigh the same, as in the article, and the mean is over the batch. With
    `max_count` a pair has GloVe's weight, `min(1, (X_ij / max_count)^exponent)`.

    Args:
        total: Float greater than 0: `X`, the sum of all counts.
        max_count: `None`, or float greater than 0. From this count on a pair weighs 1.
            GloVe: 100.
        exponent: Float of at least 0, for `max_count`. GloVe: 0.75.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        y_true: `(batch, 3)`: `X_ij`, `X_i`, `X_j`.
        y_pred: `s_ij`, `(batch,)` or `(batch, 1)`.

    Returns:
        `call` gives `(batch,)` float32.

    Raises:
        ValueError: If an argument is out of range, as for an empty matrix; if
            tensors don't have these shapes; from `check_target`, if a count is
            negative or none is positive.

    Examples:
        >>> from keras import ops
        >>> loss = PointwiseMutualInformation(100.0, reduction="none")
        >>> counts = ops.array([[8.0, 20.0, 40.0], [0.0, 20.0, 40.0]])
        >>> print(ops.convert_to_numpy(loss(counts, ops.array([1.0, 1.0]))))
        [1. 0.]

    Reference:
        Su Jianlin. Custom complex losses in Keras (in Chinese). Scientific Spaces,
        kexue.fm.
    """

    def __init__(
        self,
        total: float,
        *,
        max_count: float | None = None,
        exponent: float = 0.75,
        name: str = "pointwise_mutual_information",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.total = _check.positive("total", total)
        self.max_count = max_count
        if max_count is not None:
            self.max_count = _check.positive("max_count", max_count)
        self.exponent = _check.not_negative("exponent", exponent)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        shape = _shapes.one_output("PointwiseMutualInformation", prediction)
        return (shape[0], 3), "float32"

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        pairs = target[:, 0]
        if not (target >= 0).all() or not (pairs > 0).any():
            raise ValueError(
                f"The target of the branch {branch!r} must hold three counts of at "
                "least 0 for each pair, how often it occurs and the sums of its row "
                "and column, and one pair that occurs. Received "
                f"{int((target < 0).sum())} negative numbers, and "
                f"{int((pairs > 0).sum())} of {len(pairs)} pairs occur."
            )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        scores = ops.cast(_shapes.number_a_sample("y_pred", y_pred), "float32")
        counts = ops.cast(y_true, "float32")
        if len(counts.shape) != 2 or counts.shape[1] != 3:
            raise ValueError(
                "PointwiseMutualInformation must be called on a target (batch, 3): how "
                "often a pair occurs, and its row's and column's sum. Received a "
                f"target of shape {tuple(counts.shape)}."
            )
        # log(0) would be nan in the gradient, even times 0.
        occurs = ops.all(counts > 0, axis=1)
        counts = ops.where(ops.expand_dims(occurs, 1), counts, 1.0)
        pair, row, column = ops.unstack(ops.log(counts), num=3, axis=1)
        information = pair + math.log(self.total) - row - column
        values = ops.where(occurs, ops.square(scores - information), 0.0)
        if self.max_count is None:
            return values
        share = ops.minimum(counts[:, 0] / self.max_count, 1.0)
        return ops.power(share, self.exponent) * values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "total": self.total,
            "max_count": self.max_count,
            "exponent": self.exponent,
        }
