"""The training model: a prediction model, its losses and a weighter in one."""

from lossweigh.training.advice import AdviceWarning
from lossweigh.training.build import build_training_model
from lossweigh.training.ignore_loss import ignore_loss, ignoreLoss
from lossweigh.training.model import TrainingModel

__all__ = [
    "AdviceWarning",
    "TrainingModel",
    "build_training_model",
    "ignoreLoss",
    "ignore_loss",
]
