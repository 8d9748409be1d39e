"""Metrics of what a branch's loss is about."""

from lossweigh.metrics.last_step import LastStep

__all__ = ["LastStep"]
