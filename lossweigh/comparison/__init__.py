"""An honest comparison of weighters and balancers on one's own model and data."""

from lossweigh.comparison.compare import compare
from lossweigh.comparison.comparison import Comparison
from lossweigh.comparison.pictures import plot_comparison, plot_pareto
from lossweigh.comparison.searches import Grid, RandomSearch

__all__ = [
    "Comparison",
    "Grid",
    "RandomSearch",
    "compare",
    "plot_comparison",
    "plot_pareto",
]
