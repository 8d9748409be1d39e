"""What to do about the losses of a model, measured on its data."""

from lossweigh.suggestion.suggest import suggest
from lossweigh.suggestion.suggestion import Proposal, Suggestion

__all__ = ["Proposal", "Suggestion", "suggest"]
