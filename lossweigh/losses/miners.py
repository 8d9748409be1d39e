"""Miners, an argument of `TripletMargin`, choose which samples make a triplet."""

from __future__ import annotations

import abc
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh._types import BranchName, Mask, Shape, Tensor
from lossweigh.losses import _shapes
from lossweigh.losses.distances import Distance


class Miner(abc.ABC):
    """Finds the triplets that a loss compares.

    Abstract: a miner is a subclass with one method to write, `triplets`; one
    that needs no labels overrides `target_spec` too. Decorate it with
    `@keras.saving.register_keras_serializable()`.
    """

    @abc.abstractmethod
    def triplets(
        self, tensors: tuple[Tensor, ...], valid: Mask, distance: Distance
    ) -> tuple[Tensor, Tensor, Tensor, Mask]:
        """An anchor, a positive and a negative for each sample.

        Args:
            tensors: What the loss was called on.
            valid: Bool, `(batch,)` or the prediction's shape; `None` if all are.
            distance: The distance by which samples are near or far.

        Returns:
            Three tensors `(batch, features)`, and bool `(batch,)`, true for anchors
            with a triplet, or `None` if all have one. The numbers of the other anchors
            are finite too.
        """

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        """Shape and dtype of the labels, as in `TargetSpec`."""
        shape = _shapes.one_output(type(self).__name__, prediction)
        _shapes.vectors(embeddings=shape)
        return shape[:1], "int32"

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        """Raises a worded error for unusable labels, as in `TargetSpec`."""
        return

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


@keras.saving.register_keras_serializable(package="lossweigh")
class GivenTriplets(Miner):
    """The triplets that the loss is called on: anchor, positive, negative."""

    def triplets(
        self, tensors: tuple[Tensor, ...], valid: Mask, distance: Distance
    ) -> tuple[Tensor, Tensor, Tensor, Mask]:
        if len(tensors) != 3:
            raise ValueError(
                "TripletMargin with GivenTriplets must be called on three tensors, "
                f"anchor, positive and negative. Received {len(tensors)}. Use it in a "
                '`TargetFreeLoss(..., of=["anchor", "positive", "negative"])`; '
                "for labels and embeddings give it `miner=BatchHard()`."
            )
        anchor, positive, negative = tensors
        _shapes.vectors(anchor=anchor, positive=positive, negative=negative)
        anchor, positive, negative = (_shapes.zero_invalid(t, valid) for t in tensors)
        return anchor, positive, negative, _shapes.valid_samples(valid)

    def target_spec(self, prediction: Any) -> tuple[Shape, str]:
        raise ValueError(
            "TripletMargin with GivenTriplets has no target. Use it in a "
            '`TargetFreeLoss(..., of=["anchor", "positive", "negative"])`, or give '
            "it `miner=BatchHard()` to find triplets by labels."
        )


@keras.saving.register_keras_serializable(package="lossweigh")
class BatchHard(Miner):
    """Takes for each sample the furthest of its class and the nearest of another.

        p(a) = argmax_{i: y_i = y_a, i != a} D(f_a, f_i)
        n(a) = argmin_{i: y_i != y_a} D(f_a, f_i)

    over the samples `i` of the batch, with embeddings `f`, labels `y` and the
    distance `D`. The loss is called on labels `(batch,)` and embeddings `(batch,
    features)`. A batch should hold several classes with several samples each (the
    paper: P classes, K samples each). A sample without a positive or a negative in
    the batch is no anchor. A sample that isn't valid is in no triplet.

    No gradient flows through the choice. It compares float32 matrix products, which
    have fewer digits on some accelerators, so two almost equal distances may be
    confused. The chosen distance itself is computed in full.

    Reference:
        A. Hermans, L. Beyer, B. Leibe. In defense of the triplet loss for person
        re-identification. arXiv:1703.07737, 2017.
    """

    def triplets(
        self, tensors: tuple[Tensor, ...], valid: Mask, distance: Distance
    ) -> tuple[Tensor, Tensor, Tensor, Mask]:
        if len(tensors) != 2:
            raise ValueError(
                "TripletMargin with BatchHard must be called on two tensors, labels "
                f"(batch,) and embeddings (batch, features). Received {len(tensors)}: "
                f"{[getattr(t, 'shape', type(t).__name__) for t in tensors]}."
            )
        labels = _shapes.number_a_sample("labels", tensors[0])
        _shapes.vectors(embeddings=tensors[1])
        rows = _shapes.zero_invalid(tensors[1], valid)
        usable = _shapes.valid_samples(valid)
        if usable is None:
            usable = ops.ones_like(labels, dtype="bool")

        order = ops.arange(ops.shape(rows)[0], dtype="int32")
        itself = ops.equal(ops.expand_dims(order, 1), ops.expand_dims(order, 0))
        same = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(labels, 0))
        is_negative = ops.logical_and(ops.logical_not(same), usable)
        is_positive = ops.logical_and(ops.where(itself, False, same), usable)
        ranks = ops.stop_gradient(distance.ranks(rows))
        furthest = ops.argmax(ops.where(is_positive, ranks, -np.inf), axis=1)
        nearest = ops.argmin(ops.where(is_negative, ranks, np.inf), axis=1)
        has_triplet = ops.logical_and(ops.any(is_positive, 1), ops.any(is_negative, 1))
        positive = ops.take(rows, furthest, axis=0)
        negative = ops.take(rows, nearest, axis=0)
        return rows, positive, negative, ops.logical_and(has_triplet, usable)

    def check_target(self, branch: BranchName, target: np.ndarray) -> None:
        _, counts = np.unique(target, return_counts=True)
        if len(counts) < 2 or counts.max() < 2:
            raise ValueError(
                f"The target of the branch {branch!r} must hold at least two classes, "
                "and two samples of one of them: BatchHard compares a sample with one "
                f"of its class and one of another. Received {target.size} labels of "
                f"{len(counts)} classes, at most {max(counts, default=0)} of one class."
            )
