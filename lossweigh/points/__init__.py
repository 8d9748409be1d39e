"""Weights for single points, the rows of a data set: one method a file."""

from lossweigh.points._point_losses import PointLosses
from lossweigh.points.base import PointWeights
from lossweigh.points.causal import Causal
from lossweigh.points.residual_attention import ResidualAttention
from lossweigh.points.self_adaptive import SelfAdaptive

__all__ = [
    "Causal",
    "PointLosses",
    "PointWeights",
    "ResidualAttention",
    "SelfAdaptive",
]
