"""Loss weighting for Keras 3 models with more than one output.

Give a Keras model and a loss for each output; get a second model over the same
layers that trains the first. How the losses are balanced is a layer you choose:

    training = lossweigh.build_training_model(prediction, losses, weighter)
    training.compile("adam")
    training.fit(x, y)
    prediction.predict(x)
"""

from lossweigh import callbacks, layers, losses, metrics, points
from lossweigh._version import __version__ as __version__
from lossweigh.balancing import (
    IMTLG,
    MGDA,
    AlignedMTL,
    Balancer,
    CAGrad,
    ConFIG,
    DualCone,
    DualProj,
    FairGrad,
    GradDrop,
    GradNorm,
    GradVac,
    LearningRateAnnealing,
    NashMTL,
    NormBalancer,
    PCGrad,
    UPGrad,
)
from lossweigh.balancing.levels import Calibrated, Parameters, Representation
from lossweigh.branches import BranchLoss, MaskedLoss, TargetFreeLoss
from lossweigh.callbacks import CollapseWarning
from lossweigh.comparison import (
    Comparison,
    Grid,
    RandomSearch,
    compare,
    plot_comparison,
    plot_pareto,
)
from lossweigh.constraints import Between, Simplex
from lossweigh.plots import plot_training
from lossweigh.suggestion import suggest
from lossweigh.training import (
    AdviceWarning,
    TrainingModel,
    build_training_model,
    ignore_loss,
    ignoreLoss,
)
from lossweigh.weighting import (
    DWA,
    FAMO,
    IMTLL,
    CoVWeighting,
    FixedWeights,
    GeometricMean,
    LogSum,
    LossWeighter,
    RandomWeights,
    ReLoBRaLo,
    RevisedUncertainty,
    SmoothTchebycheff,
    SoftAdapt,
    SoftOptimalUncertainty,
    SumToOne,
    Uncertainty,
    Weighter,
)

__all__ = [
    "AdviceWarning",
    "AlignedMTL",
    "Balancer",
    "Between",
    "BranchLoss",
    "CAGrad",
    "Calibrated",
    "CoVWeighting",
    "CollapseWarning",
    "Comparison",
    "ConFIG",
    "DWA",
    "DualCone",
    "DualProj",
    "FAMO",
    "FairGrad",
    "FixedWeights",
    "GeometricMean",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "Grid",
    "IMTLG",
    "IMTLL",
    "LearningRateAnnealing",
    "LogSum",
    "LossWeighter",
    "MGDA",
    "MaskedLoss",
    "NashMTL",
    "NormBalancer",
    "PCGrad",
    "Parameters",
    "RandomSearch",
    "RandomWeights",
    "ReLoBRaLo",
    "Representation",
    "RevisedUncertainty",
    "Simplex",
    "SmoothTchebycheff",
    "SoftAdapt",
    "SoftOptimalUncertainty",
    "SumToOne",
    "TargetFreeLoss",
    "TrainingModel",
    "UPGrad",
    "Uncertainty",
    "Weighter",
    "build_training_model",
    "callbacks",
    "compare",
    "ignoreLoss",
    "ignore_loss",
    "layers",
    "losses",
    "metrics",
    "plot_training",
    "plot_comparison",
    "plot_pareto",
    "points",
    "suggest",
]
