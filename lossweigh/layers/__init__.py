"""Layers for prediction models."""

from lossweigh.layers.derivatives import Derivatives
from lossweigh.layers.network_warnings import DerivativeWarning

__all__ = ["DerivativeWarning", "Derivatives"]
