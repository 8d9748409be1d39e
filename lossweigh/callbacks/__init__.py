"""Callbacks for `fit`."""

from lossweigh.callbacks.end_of_epoch import CollapseWarning, EndOfEpoch
from lossweigh.callbacks.loss_weight_scheduler import LossWeightScheduler

__all__ = ["CollapseWarning", "EndOfEpoch", "LossWeightScheduler"]
