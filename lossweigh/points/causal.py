"""Wang, Sankaran & Perdikaris: causal weights in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh import _check
from lossweigh._types import Tensor
from lossweigh.points._point_losses import PointLosses
from lossweigh.points.base import PointWeights


@keras.saving.register_keras_serializable(package="lossweigh")
class Causal(PointWeights):
    """Causal weights: a point in time counts once all before it is learned.

        w_i = exp(-epsilon sum_{k < i} L_k)

    with `L_k` the mean loss of the points in slice k of time, and `w_i` the weight of
    the points in slice i, a constant in the gradient. `epsilon` is the first of
    `epsilons`, and the next one in the step after every weight was above `threshold`.

    Weights are between 0 and 1; those of the first slice are 1. A step moves the `L_k`
    before it weighs the loss. A loss below 0 counts as 0. Give slices of about
    as many points: the loss is the mean over points, in the paper over slices.

    Differs from the paper where a batch isn't the whole set: a slice without a point
    in the batch keeps its last `L_k`. A slice that has never been seen counts as 0,
    and `epsilon` isn't raised before all have been seen.

    Args:
        num_points: How many points there are.
        num_slices: How many slices of time. Without `slice_of_point` the points must
            be sorted by time, and are cut into slices of as many points each.
        slice_of_point: The slice of each point, `num_points` whole numbers from 0,
            the earliest, to `num_slices - 1`. None may be without a point.
        epsilons: Numbers greater than 0, each larger than the one before.
        threshold: Float between 0 and 1.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range or of a wrong length.

    Examples:
        >>> from keras import ops
        >>> points = Causal(4, num_slices=4, epsilons=[1.0])
        >>> losses = ops.array([0.1, 0.2, 0.4, 0.8])
        >>> weighted = points([losses, ops.arange(4)], training=True)
        >>> print(ops.convert_to_numpy(points.loss_weights).round(4))
        [1.     0.9048 0.7408 0.4966]

    Reference:
        S. Wang, S. Sankaran, P. Perdikaris. Respecting causality is all you need for
        training physics-informed neural networks. arXiv:2203.07404, 2022.
    """

    def __init__(
        self,
        num_points: int,
        num_slices: int | None = None,
        *,
        slice_of_point: Sequence[int] | np.ndarray | None = None,
        epsilons: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0),
        threshold: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points, **kwargs)
        self.slice_of_point = None
        if slice_of_point is None:
            num_slices = _number_of_slices(num_slices, self.num_points)
            slices = np.arange(self.num_points) * num_slices // self.num_points
        else:
            slices = _as_slices(slice_of_point, num_slices, self.num_points)
            self.slice_of_point = slices.tolist()
        self._slices = slices.astype("int32")
        self.num_slices = int(slices.max()) + 1
        self.epsilons = _check.positive_numbers("epsilons", epsilons)
        if sorted(set(self.epsilons)) != self.epsilons:
            raise ValueError(
                "`epsilons` must be numbers each larger than the one before. "
                f"Received: epsilons={self.epsilons}."
            )
        self.threshold = _check.between("threshold", threshold, 0.0, 1.0)

    def add_states(self) -> None:
        self.mean_losses = self.add_state("mean_losses", (self.num_slices,))
        self.known = self.add_state("known", (self.num_slices,))
        self.level = self.add_state("level", ())  # the place in `epsilons`

    @property
    def epsilon(self) -> Tensor:
        """The `epsilon` now in force."""
        return self._epsilon(self.level * 1.0)

    @property
    def loss_weights(self) -> Tensor:
        weights = self._weights(self.mean_losses * 1.0, self.epsilon)
        return ops.take(weights, self._slices)

    def weigh(self, batch: PointLosses) -> Tensor:
        slices = ops.take(ops.convert_to_tensor(self._slices), batch.index)
        losses = ops.maximum(batch.losses, 0.0) * batch.counted
        both = ops.stack([losses, batch.counted], axis=-1)
        sums = ops.segment_sum(both, slices, num_segments=self.num_slices)
        rows = sums[:, 1]
        old_losses, old_known = self.mean_losses * 1.0, self.known * 1.0
        level = self.level * 1.0
        mean_losses = ops.where(
            rows > 0, sums[:, 0] / ops.maximum(rows, 1.0), old_losses
        )
        known = ops.where(rows > 0, 1.0, old_known)
        weights = self._weights(mean_losses, self._epsilon(level))
        rises = ops.logical_and(ops.all(known > 0), ops.min(weights) > self.threshold)
        highest = len(self.epsilons) - 1.0
        self.mean_losses.assign(mean_losses)
        self.known.assign(known)
        self.level.assign(ops.where(rises, ops.minimum(level + 1.0, highest), level))
        return ops.take(weights, slices)

    def _epsilon(self, level: Tensor) -> Tensor:
        epsilons = ops.convert_to_tensor(self.epsilons, dtype="float32")
        return ops.take(epsilons, ops.cast(level, "int32"))

    def _weights(self, mean_losses: Tensor, epsilon: Tensor) -> Tensor:
        """`(num_slices,)`."""
        before = ops.concatenate([ops.zeros((1,)), ops.cumsum(mean_losses)[:-1]])
        return ops.exp(-epsilon * before)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_slices": self.num_slices,
            "slice_of_point": self.slice_of_point,
            "epsilons": self.epsilons,
            "threshold": self.threshold,
        }


def _number_of_slices(num_slices: Any, num_points: int) -> int:
    if num_slices is None:
        raise ValueError(
            "`num_slices` must be given, how many slices of time there are, or "
            "`slice_of_point`. Received: neither."
        )
    number = _check.whole("num_slices", num_slices, at_least=1)
    if number > num_points:
        raise ValueError(
            f"`num_slices` must be at most `num_points`, {num_points}. Received: "
            f"num_slices={number}."
        )
    return number


def _as_slices(given: Any, num_slices: int | None, num_points: int) -> np.ndarray:
    slices = np.asarray(given)
    if slices.dtype.kind not in "iu" or slices.shape != (num_points,):
        raise ValueError(
            f"`slice_of_point` must hold a whole number for each of the {num_points} "
            f"points. Received an array of shape {slices.shape} and dtype "
            f"{slices.dtype}."
        )
    number = int(slices.max()) + 1
    if num_slices is not None:
        number = _check.whole("num_slices", num_slices, at_least=1)
    if slices.min() < 0 or not np.array_equal(np.unique(slices), np.arange(number)):
        raise ValueError(
            f"`slice_of_point` must have each of the numbers from 0 to {number - 1}, "
            f"and no other. Received: {np.unique(slices).tolist()}."
        )
    return slices
