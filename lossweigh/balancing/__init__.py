"""Gradient-level methods: branch gradients in, weights of the gradients out.

Each is a `Balancer`: it finds the weights of the branches' gradients where the
shared layers meet the heads, from the gradients themselves, their K x K Gramian.
"""

from lossweigh.balancing.aligned_mtl import AlignedMTL
from lossweigh.balancing.base import Balancer
from lossweigh.balancing.cagrad import CAGrad
from lossweigh.balancing.conflict_free import ConFIG
from lossweigh.balancing.dual_cone import DualCone
from lossweigh.balancing.dual_proj import DualProj
from lossweigh.balancing.fair_grad import FairGrad
from lossweigh.balancing.grad_drop import GradDrop
from lossweigh.balancing.grad_norm import GradNorm
from lossweigh.balancing.grad_vac import GradVac
from lossweigh.balancing.imtl_g import IMTLG
from lossweigh.balancing.learning_rate_annealing import LearningRateAnnealing
from lossweigh.balancing.mgda import MGDA
from lossweigh.balancing.nash_mtl import NashMTL
from lossweigh.balancing.norm_balancer import NormBalancer
from lossweigh.balancing.pcgrad import PCGrad
from lossweigh.balancing.up_grad import UPGrad

__all__ = [
    "Balancer",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "DualCone",
    "DualProj",
    "FairGrad",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "IMTLG",
    "LearningRateAnnealing",
    "MGDA",
    "NashMTL",
    "NormBalancer",
    "PCGrad",
    "UPGrad",
]
