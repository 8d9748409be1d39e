"""Pennington, Socher & Manning: word vectors from co-occurrence counts (GloVe)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import BranchName, Shape, Tensor
from lossweigh.branches import TargetSpec
from lossweigh.losses import _shapes


@keras.saving.register_keras_serializable(package="lossweigh")
class GloVe(keras.losses.Loss, TargetSpec):
    """The weighted squared error of the logarithm of a co-occurrence count.

        L = f(X_ij) (s_ij - log X_ij)^2,    s_ij = <v_i, u_j> + b_i + c_j
        f(X) = min(1, (X / X_max)^alpha)

    with `X_ij` how often the words i and j occur together, `v` and `u` their
    vectors as word and as context, `b` and `c` their biases, and `s_ij`, the
    prediction, which the model computes. The target is the count itself. A pair
    with a count of 0 has a loss and a gradient of 0, as in the paper.

    The paper sums over the pairs that occur; this is a mean over the batch.

    Args:
        max_count: Float greater than 0: `X_max`. From this count on a pair weighs 1.
        exponent: Float of at least 0: `alpha`. With 0 all pairs that occur weigh 1.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        y_true: Counts of at least 0, of the prediction's shape.
        y_pred: `s_ij`: `(batch,)`, `(batch, 1)`, or `(batch, n)` for n contexts.

    Returns:
        `call` gives `(batch,)` float32, the mean over the n.

    Raises:
        ValueError: If an argument is out of range; if the shapes aren't the same;
            from `check_target`, if a count is negative or none is positive.

    Examples:
        >>> from keras import ops
        >>> loss = GloVe(max_count=10.0, reduction="none")
        >>> counts, scores = ops.array([1.0, 100.0, 0.0]), ops.array([2.0, 2.0, 2.0])
        >>> print(ops.convert_to_numpy(loss(counts, scores)).round(3))
        [0.711 6.787 0.   ]

    Reference:
        J. Pennington, R. Socher, C. D. Manning. GloVe: global vectors for word
        representation. EMNLP 2014.
    """

    def __init__(
        self,
        *,
        max_count: float = 100.0,
        exponent: float = 0.75,
        name: str = "glove",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.max_count = _check.positive("max_count", max_count)
        self.exponent = _check.not_negative("exponent", exponent)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        return _shapes.one_output("GloVe", prediction), "float32"

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        if not (target >= 0).all() or not (target > 0).any():
            raise ValueError(
                f"The target of the branch {branch!r} must hold co-occurrence counts "
                "of at least 0, and one greater than 0. Received "
                f"{int((target < 0).sum())} negative and {int((target > 0).sum())} "
                f"positive ones in {target.size}."
            )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        counts, scores = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        counts, scores = _shapes.same_rank(counts, scores)
        if not _shapes.fits(tuple(counts.shape), tuple(scores.shape)):
            raise ValueError(
                "GloVe must be called on as many counts as scores. Received the "
                f"shapes {tuple(counts.shape)} and {tuple(scores.shape)}."
            )
        # log(0) would be nan in the gradient, even times 0.
        occurs = counts > 0
        counts = ops.where(occurs, counts, 1.0)
        scores = ops.where(occurs, scores, 0.0)
        share = ops.minimum(counts / self.max_count, 1.0)
        values = ops.power(share, self.exponent) * ops.square(scores - ops.log(counts))
        return ops.mean(values, axis=-1) if len(values.shape) > 1 else values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_count": self.max_count,
            "exponent": self.exponent,
        }
