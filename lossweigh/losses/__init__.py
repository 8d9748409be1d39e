"""Losses that Keras doesn't have: of sequences, triplets, pairs, co-occurrences.

Each works in a `BranchLoss` or `TargetFreeLoss`. One that takes one target and one
output also works in `compile(loss=...)` of any Keras model.
"""

from lossweigh.losses.center import Center
from lossweigh.losses.concordance import Concordance
from lossweigh.losses.contrastive import Contrastive
from lossweigh.losses.correlation import Correlation
from lossweigh.losses.distances import Cosine, Distance, Euclidean, SquaredEuclidean
from lossweigh.losses.glove import GloVe
from lossweigh.losses.miners import BatchHard, GivenTriplets, Miner
from lossweigh.losses.pairwise_ranking import PairwiseRanking
from lossweigh.losses.pointwise_mutual_information import PointwiseMutualInformation
from lossweigh.losses.target_replication import TargetReplication
from lossweigh.losses.triplet_margin import TripletMargin

__all__ = [
    "BatchHard",
    "Center",
    "Concordance",
    "Contrastive",
    "Correlation",
    "Cosine",
    "Distance",
    "Euclidean",
    "GivenTriplets",
    "GloVe",
    "Miner",
    "PairwiseRanking",
    "PointwiseMutualInformation",
    "SquaredEuclidean",
    "TargetReplication",
    "TripletMargin",
]
