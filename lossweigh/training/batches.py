"""From what `fit` is given to what a step gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh.branches import split_labels
from lossweigh.training.array_likes import is_stream
from lossweigh.training.class_weights import class_weights
from lossweigh.training.data_values import (
    as_arrays,
    check_arrays,
    check_batch,
)
from lossweigh.training.log_metrics import SUSPECTS
from lossweigh.training.names import sample_weight_name, target_name
from lossweigh.training.point_index import check_batch_of, fill
from lossweigh.training.suspects import suspects
from lossweigh.training.wiring import Wiring


class Batches:
    """The road of the data: named and checked before `fit`, merged batch by batch.

    Args:
        wiring: The training model's.
        outputs: The training model's outputs, KerasTensors by name.

    Attributes:
        num_classes: For branches whose targets are class indices, how many classes
            there are.
        looks: Whether to check the next single batch of tensors: only the first is
            checked.
    """

    def __init__(self, wiring: Wiring, outputs: Mapping[str, Any]) -> None:
        self.wiring = wiring
        self.class_weight: dict[str, dict[int, float]] = {}
        self.num_classes = {
            branch: outputs[layer.source_names[0]].shape[layer.class_axis]
            for branch, layer in wiring.losses.items()
            if layer.is_sparse
        }
        self.looks = True

    def named(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        tensors: bool = True,
        *,
        training: bool = False,
        validation_split: float = 0.0,
    ) -> Any:
        """Arrays as named inputs, checked; a data set unchanged.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            sample_weight: As for `fit`.
            tensors: Whether to check tensors too, which copies them.
            training: Whether points are weighed, so that the rows need an index.
            validation_split: As for `fit`.
        """
        if is_stream(x):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "`y` and `sample_weight` must be left out when `x` is a data set, "
                    "generator or loader: let it yield (x, y) or (x, y, sample_weight)."
                )
            return x
        merged = as_arrays(self.wiring.data.merge(x, y, sample_weight))
        check_arrays(
            merged,
            self.wiring.losses.values(),
            self.num_classes,
            self.wiring.data.specs,
            tensors=tensors,
        )
        if training:
            fill(merged, self.wiring.points, validation_split, tensors=tensors)
        return merged

    def one(self, x: Any, y: Any, sample_weight: Any, *, training: bool) -> Any:
        """As `named`, for a single batch: of tensors it checks only the first."""
        merged = self.named(x, y, sample_weight, tensors=self.looks, training=training)
        self.looks = False
        return merged

    def step(self, data: Any, training: bool, *, weighs_points: bool = False) -> Any:
        """A batch from any source as named inputs, and the data for the logs.

        Args:
            data: The batch.
            training: Whether class weights are in force.
            weighs_points: Whether weights of points are in force.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        merged = self.wiring.data.merge(x, y, sample_weight)
        points = self.wiring.points if weighs_points else {}
        check_batch_of(merged, points, looks=y is not None)
        if y is not None:  # a batch of a data set: arrays were checked before
            check_batch(merged, self.wiring.data.specs)
        for name, value in merged.items():  # not traced, a batch may be NumPy's
            if isinstance(value, np.ndarray):
                merged[name] = ops.convert_to_tensor(value)
        also: dict[str, Any] = {}
        if y is not None:
            layers = self.wiring.losses.values()
            also[SUSPECTS] = suspects(merged, layers, self.num_classes, points)
        for branch in self.wiring.losses:
            name = sample_weight_name(branch)
            weight = merged.get(name)
            if training and branch in self.class_weight:
                factor = self._weights_of_classes(branch, merged)
                if weight is not None:
                    factor = factor * ops.convert_to_tensor(weight, dtype="float32")
                weight = factor
            if weight is None and name not in self.wiring.data.optional:
                weight = ops.ones([1] * self.wiring.data.rank(name))
            merged[name] = weight
        for name in self.wiring.data.index_names.values():
            if name not in merged:
                # Outside of training nobody looks at it.
                is_optional = name in self.wiring.data.optional
                merged[name] = None if is_optional else ops.zeros((1,), "int32")
        for name in map(target_name, self.wiring.data.metric_targets):
            also[name] = merged.pop(name)
        return merged, also or None, None

    def use_class_weight(self, class_weight: Any) -> bool:
        """Puts class weights in force; returns whether they changed.

        Raises:
            ValueError: If a branch has no classes, or not as many.
        """
        checked = class_weights(class_weight, self.wiring.data.target_of)
        for branch, weights in checked.items():
            layer: Any = self.wiring.losses[branch]  # a BranchLoss, or there are none
            layer.check_classes(f"class_weight[{branch!r}]", weights)
            if not layer.has_classes_last:
                raise ValueError(
                    f"`class_weight` of {branch!r} must be given to its loss, whose "
                    f"classes are along axis {layer.class_axis}: "
                    "`BranchLoss(loss, class_weight=...)`."
                )
        new = checked != self.class_weight
        self.class_weight = checked
        return new

    def _weights_of_classes(self, branch: str, merged: Mapping[str, Any]) -> Any:
        layer: Any = self.wiring.losses[branch]  # a BranchLoss, or there are none
        target = merged[target_name(layer.target)]
        rank = self.wiring.data.rank(sample_weight_name(branch))
        weight = layer.weight_of_class(
            split_labels(ops.convert_to_tensor(target), layer.missing)[1],
            self.class_weight[branch],
        )
        for _ in range(rank - len(weight.shape)):
            weight = ops.expand_dims(weight, -1)
        return weight
