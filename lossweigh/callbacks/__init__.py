"""Callbacks for `fit`."""

from lossweigh.callbacks.end_of_epoch import (
    AdvanceWeighters,
    CollapseMonitor,
    CollapseWarning,
)
from lossweigh.callbacks.gradient_report import GradientReport
from lossweigh.callbacks.loss_weight_scheduler import LossWeightScheduler

__all__ = [
    "AdvanceWeighters",
    "CollapseMonitor",
    "CollapseWarning",
    "GradientReport",
    "LossWeightScheduler",
]
