"""Callbacks for `fit`."""

from lossweigh.callbacks.end_of_epoch import CollapseWarning, EndOfEpoch
from lossweigh.callbacks.loss_weight_schedule import LossWeightSchedule

__all__ = ["CollapseWarning", "EndOfEpoch", "LossWeightSchedule"]
