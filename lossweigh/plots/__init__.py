"""Pictures of a training; they need matplotlib, the extra `plot`."""

from lossweigh.plots.training import plot_training

__all__ = ["plot_training"]
