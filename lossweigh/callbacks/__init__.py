"""Callbacks for `fit`."""

from lossweigh.callbacks.loss_weight_schedule import LossWeightSchedule
from lossweigh.training.end_of_epoch import CollapseWarning, EndOfEpoch

__all__ = ["CollapseWarning", "EndOfEpoch", "LossWeightSchedule"]
