"""Herbrich, Graepel & Obermayer: the right answer scores higher, by a margin."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Tensor
from lossweigh.losses import _shapes


@keras.saving.register_keras_serializable(package="lossweigh")
class PairwiseRanking(keras.losses.Loss):
    """The hinge of two scores: the right one should be higher by a margin.

        L = max(0, m + s_wrong - s_right)

    with the scores `s` of a right and of a wrong answer to the same question, and
    the margin `m`. There is no target: in a model it is used as
    `TargetFreeLoss(PairwiseRanking(), of=["right", "wrong"])`. The paper's scores
    are unbounded and its margin is 1. For cosines take a smaller margin, such as 0.1.

    Args:
        margin: Float of at least 0.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        right: Scores, `(batch,)`, `(batch, 1)` or `(batch, n)`.
        wrong: As many scores; or `(batch, n)` for one right score, with which each of
            the n wrong ones is compared.

    Returns:
        `call` gives `(batch,)` float32, the mean over the n.

    Raises:
        ValueError: If `margin` is less than 0; if the shapes don't fit.

    Examples:
        >>> from keras import ops
        >>> loss = PairwiseRanking(reduction="none")
        >>> right, wrong = ops.array([2.0, 1.0]), ops.array([0.5, 1.5])
        >>> print(ops.convert_to_numpy(loss(right, wrong)))
        [0.  1.5]

    Reference:
        R. Herbrich, T. Graepel, K. Obermayer. Large margin rank boundaries for
        ordinal regression. Advances in Large Margin Classifiers, 2000.
    """

    def __init__(
        self,
        *,
        margin: float = 1.0,
        name: str = "pairwise_ranking",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.margin = _check.not_negative("margin", margin)

    def call(self, right: Tensor, wrong: Tensor) -> Tensor:
        right, wrong = ops.cast(right, "float32"), ops.cast(wrong, "float32")
        right, wrong = _shapes.same_rank(right, wrong)
        one_for_all = (*wrong.shape[:-1], 1)
        shape = tuple(right.shape)
        if not shape or not (
            _shapes.fits(shape, tuple(wrong.shape))
            or (len(shape) > 1 and _shapes.fits(shape, one_for_all))
        ):
            raise ValueError(
                "PairwiseRanking must be called on as many right scores as wrong ones, "
                "or one right score a sample. Received the shapes "
                f"{shape} and {tuple(wrong.shape)}."
            )
        values = ops.maximum(self.margin + wrong - right, 0.0)
        return ops.mean(values, axis=-1) if len(shape) > 1 else values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}
