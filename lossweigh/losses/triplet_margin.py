"""Schroff, Kalenichenko & Philbin: a sample nearer to its class than to another."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.branches import MaskedLoss, TargetSpec
from lossweigh.branches.masking import divide, match_rank
from lossweigh.losses import _shapes
from lossweigh.losses.distances import Distance, check_distance
from lossweigh.losses.miners import GivenTriplets, Miner


@keras.saving.register_keras_serializable(package="lossweigh")
class TripletMargin(MaskedLoss, TargetSpec):
    """An anchor should be nearer to its positive than to its negative, by a margin.

        L = mean_a max(0, m + D(f_a, f_p) - D(f_a, f_n))

    with the embeddings `f` of an anchor, of a positive (a sample of the same
    class) and of a negative (a sample of another class), the distance `D` and the
    margin `m`. The miner finds the triplets:

    - `GivenTriplets()` takes the three as they are. It has no target: use it in a
      `TargetFreeLoss(..., of=["anchor", "positive", "negative"])`.
    - `BatchHard()` finds them in each batch, by labels. Use it in a `BranchLoss(...)`,
      or in `compile(loss=...)` of a model with one output.

    With `BatchHard` the mean is over the anchors that have a triplet. An anchor without
    one has the value 0 and no gradient. The other values are multiplied by the number
    of valid samples divided by the number of anchors with a triplet, so that their
    mean over all samples is right. In a batch without any triplet the loss is 0.

    FaceNet takes the squared distance of embeddings of length 1. Hermans, Beyer and
    Leibe take the distance itself, of embeddings of any length.

    Args:
        margin: Float of at least 0. FaceNet: 0.2.
        distance: A `Distance`. Default: `Euclidean()`. Or `SquaredEuclidean()`,
            `Cosine()`.
        miner: A `Miner`. Default: `GivenTriplets()`. Or `BatchHard()`.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        tensors: Three times `(batch, features)`, or labels, `(batch,)` or `(batch,
            1)`, and embeddings `(batch, features)`.

    Returns:
        `values` gives `(batch,)` float32, one number an anchor, times its weight. A
        sample with weight 0 may be the positive or negative of another. A sample that
        isn't valid (masked, or without a label) may not.

    Raises:
        TypeError: If `distance` or `miner` is of another type.
        ValueError: If `margin` is less than 0; if tensors don't have these shapes;
            from `check_target`, if the labels can't make a triplet.

    Examples:
        >>> from keras import ops
        >>> from lossweigh.losses.miners import BatchHard
        >>> loss = TripletMargin(miner=BatchHard())
        >>> labels = ops.array([0, 0, 1])  # the last is alone in its class
        >>> embeddings = ops.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
        >>> print(ops.convert_to_numpy(loss(labels, embeddings)).round(4))
        1.7

    Reference:
        F. Schroff, D. Kalenichenko, J. Philbin. FaceNet: a unified embedding for
        face recognition and clustering. CVPR 2015. For `BatchHard`: A. Hermans, L.
        Beyer, B. Leibe. In defense of the triplet loss for person
        re-identification. arXiv:1703.07737, 2017.
    """

    over_time = False

    def __init__(
        self,
        *,
        margin: float = 0.2,
        distance: Distance | None = None,
        miner: Miner | None = None,
        name: str = "triplet_margin",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.margin = _check.not_negative("margin", margin)
        self.distance = check_distance(distance)
        self.miner = GivenTriplets() if miner is None else miner
        if not isinstance(self.miner, Miner):
            raise TypeError(
                "`miner` must be a Miner, such as `GivenTriplets()` or `BatchHard()`. "
                f"Received: miner={miner!r}."
            )

    def values(
        self, *tensors: Tensor, valid: Mask = None, weight: Tensor = None
    ) -> Tensor:
        anchor, positive, negative, has_triplet = self.miner.triplets(
            tensors, valid, self.distance
        )
        near, far = self.distance(anchor, positive), self.distance(anchor, negative)
        values = ops.maximum(self.margin + near - far, 0.0)
        if has_triplet is not None:
            counts = _shapes.valid_samples(valid)
            counts = ops.ones_like(has_triplet) if counts is None else counts
            values = ops.where(has_triplet, values, ops.zeros_like(values))
            values = values * divide(_number(counts), _number(has_triplet))
        return values if weight is None else values * match_rank(weight, 1, ops.mean)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        return self.miner.target_spec(prediction)

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        self.miner.check_target(branch, target)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "distance": keras.saving.serialize_keras_object(self.distance),
            "miner": keras.saving.serialize_keras_object(self.miner),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TripletMargin:
        config = dict(config)
        for key in ("distance", "miner"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def _number(where: Mask) -> Tensor:
    return ops.sum(ops.cast(where, "float32"))
