"""Means and standard deviations of the targets of regressions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from lossweigh.branches import BranchLoss, is_of_differences
from lossweigh.training.names import target_name

# A column is out of scale if its spread or its mean is so far from 1, or from 0 in
# spreads: networks start with outputs of about 1.
OUT_OF_SCALE = 10.0


@dataclasses.dataclass
class Scale:
    """The mean and spread of each column of a target, missing labels left out.

    The columns are those of the last axis.

    Attributes:
        branches: The branches whose losses take the target.
        missing: The number that marks a missing label, if one does.
        count: `(columns,)`, how many numbers there are.
        mean: `(columns,)`, their means.
        squares: `(columns,)`, the sums of their squared distances from the mean.
    """

    branches: tuple[str, ...]
    missing: float | None
    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """`(columns,)`, the standard deviations; 0 of none."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    @property
    def is_out(self) -> np.ndarray:
        """`(columns,)` bool. A constant has no scale to bring to 1."""
        spread = np.maximum(
            self.std / OUT_OF_SCALE, 1 / (OUT_OF_SCALE * self.std + 1e-30)
        )
        far = np.abs(self.mean) > OUT_OF_SCALE * np.maximum(self.std, 1.0)
        return np.asarray((self.std > 0) & ((spread > 1) | far))

    def add(self, values: np.ndarray) -> None:
        """Adds rows, and keeps all digits where the mean is large.

        Args:
            values: `(rows, columns)`; missing labels are `nan`.
        """
        known = ~np.isnan(values)
        number = known.sum(axis=0)
        total = self.count + number
        zeroed = np.where(known, values, 0.0)
        mean = zeroed.sum(axis=0) / np.maximum(number, 1)
        apart = np.where(number > 0, mean - self.mean, 0.0)
        self.squares += np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
        self.squares += apart**2 * self.count * number / np.maximum(total, 1)
        self.mean += apart * number / np.maximum(total, 1)
        self.count = total


class TargetScales:
    """The scales of targets that may be standardised, gathered batch by batch.

    These are the targets of Keras's losses of target less prediction: the mean squared
    and the mean absolute error, Huber's and the log-cosh loss. For others a
    standardised target means something else.

    Args:
        training: The training model.

    Attributes:
        by_target: The scales by the target's name in `y`.
    """

    def __init__(self, training: Any) -> None:
        self.by_target: dict[str, Scale] = {}
        self._losses: dict[str, list[BranchLoss]] = {}
        for layer in training.branch_losses.values():
            if isinstance(layer, BranchLoss):
                self._losses.setdefault(layer.target, []).append(layer)
        self._losses = {
            target: layers
            for target, layers in self._losses.items()
            if all(is_of_differences(layer.loss) for layer in layers)
        }

    def add(self, inputs: Any) -> None:
        """Adds the targets among the training model's inputs."""
        for target, layers in self._losses.items():
            values = ops.convert_to_numpy(inputs[target_name(target)])
            values = values.reshape(-1, values.shape[-1]).astype("float64")
            missing = (
                layers[0].missing if isinstance(layers[0].missing, float) else None
            )
            if missing is not None:
                values = np.where(values == missing, np.nan, values)
            if target not in self.by_target:
                nothing = [np.zeros(values.shape[1]) for _ in range(3)]
                branches = tuple(str(layer.branch) for layer in layers)
                self.by_target[target] = Scale(branches, missing, *nothing)
            self.by_target[target].add(np.where(np.isfinite(values), values, np.nan))
