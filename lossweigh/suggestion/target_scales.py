"""Means and standard deviations of the targets of regressions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from lossweigh.branches import BranchLoss
from lossweigh.training.names import target_name


@dataclasses.dataclass
class Scale:
    """The mean and spread of the numbers that were added, missing ones left out.

    Attributes:
        count: How many numbers.
        mean: Their mean.
        squares: The sum of their squared distances from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Their standard deviation; 0 of none."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0

    def add(self, values: np.ndarray) -> None:
        """Adds numbers, and keeps all digits where the mean is large."""
        if not values.size:
            return
        values = values.astype("float64")
        mean, count = float(values.mean()), self.count + values.size
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += apart**2 * self.count * values.size / count
        self.mean += apart * values.size / count
        self.count = count


class TargetScales:
    """The scale of each regression's target, gathered batch by batch.

    Args:
        training: The training model.

    Attributes:
        by_branch: The scales by branch. Branches without a target, and those of
            classes, have none.
    """

    def __init__(self, training: Any) -> None:
        self._losses = {
            branch: layer
            for branch, layer in training.branch_losses.items()
            if isinstance(layer, BranchLoss) and layer.task_type == "regression"
        }
        self.by_branch = {branch: Scale() for branch in self._losses}

    def target_of(self, branch: str) -> str:
        """The name that a branch's target has in `y`."""
        return str(self._losses[branch].target)

    def add(self, inputs: Any) -> None:
        """Adds the targets among the training model's inputs."""
        for branch, layer in self._losses.items():
            target = ops.convert_to_numpy(inputs[target_name(layer.target)])
            known = np.isfinite(target.astype("float64"))
            if isinstance(layer.missing, float):
                known &= target != layer.missing
            self.by_branch[branch].add(target[known])
