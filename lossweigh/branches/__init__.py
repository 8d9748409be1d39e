"""A branch's loss as a layer: any loss, mask and weight, to `(batch,)` float32."""

from lossweigh.branches.arguments import given_points
from lossweigh.branches.base import Branch
from lossweigh.branches.branch_loss import BranchLoss
from lossweigh.branches.keras_losses import goes_below_zero, is_of_differences
from lossweigh.branches.labels import check_class_weight, split_labels
from lossweigh.branches.masked_loss import MaskedLoss
from lossweigh.branches.target_free_loss import TargetFreeLoss
from lossweigh.branches.target_spec import TargetSpec
from lossweigh.branches.valid_elements import ValidElements

__all__ = [
    "Branch",
    "BranchLoss",
    "MaskedLoss",
    "TargetSpec",
    "TargetFreeLoss",
    "ValidElements",
    "check_class_weight",
    "given_points",
    "goes_below_zero",
    "is_of_differences",
    "split_labels",
]
