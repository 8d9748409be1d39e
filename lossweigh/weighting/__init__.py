"""Loss-level weighting: one method a file."""

from lossweigh.weighting.base import Weighter
from lossweigh.weighting.cov_weighting import CoVWeighting
from lossweigh.weighting.dwa import DWA
from lossweigh.weighting.famo import FAMO
from lossweigh.weighting.fixed_weights import FixedWeights
from lossweigh.weighting.geometric_mean import GeometricMean
from lossweigh.weighting.imtl_l import IMTLL
from lossweigh.weighting.log_sum import LogSum
from lossweigh.weighting.loss_weighter import LossWeighter
from lossweigh.weighting.random_weights import RandomWeights
from lossweigh.weighting.relobralo import ReLoBRaLo
from lossweigh.weighting.revised_uncertainty import RevisedUncertainty
from lossweigh.weighting.smooth_tchebycheff import SmoothTchebycheff
from lossweigh.weighting.soft_adapt import SoftAdapt
from lossweigh.weighting.soft_optimal_uncertainty import SoftOptimalUncertainty
from lossweigh.weighting.sum_to_one import SumToOne
from lossweigh.weighting.uncertainty import Uncertainty

__all__ = [
    "CoVWeighting",
    "DWA",
    "FAMO",
    "FixedWeights",
    "GeometricMean",
    "IMTLL",
    "LogSum",
    "LossWeighter",
    "RandomWeights",
    "ReLoBRaLo",
    "RevisedUncertainty",
    "SmoothTchebycheff",
    "SoftAdapt",
    "SoftOptimalUncertainty",
    "SumToOne",
    "Uncertainty",
    "Weighter",
]
