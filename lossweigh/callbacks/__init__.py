"""Callbacks for `fit`."""

from lossweigh.callbacks.coba import CoBa
from lossweigh.callbacks.dynamic_task_priority import DynamicTaskPriority
from lossweigh.callbacks.end_of_epoch import (
    AdvanceWeighters,
    CollapseMonitor,
    CollapseWarning,
)
from lossweigh.callbacks.from_validation import WeightsFromValidation
from lossweigh.callbacks.gradient_report import GradientReport
from lossweigh.callbacks.hdf5_logger import HDF5Logger
from lossweigh.callbacks.loss_weight_scheduler import LossWeightScheduler
from lossweigh.callbacks.resume import Resume
from lossweigh.callbacks.stop_branch import StopBranch

__all__ = [
    "AdvanceWeighters",
    "CoBa",
    "CollapseMonitor",
    "CollapseWarning",
    "DynamicTaskPriority",
    "GradientReport",
    "HDF5Logger",
    "LossWeightScheduler",
    "Resume",
    "StopBranch",
    "WeightsFromValidation",
]
