"""One number for all branches that means the same whatever their units are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

RELATIVE_LOSS = "relative_loss"


class RelativeLoss:
    """The mean over the branches of each loss in parts of its first.

    It is 1 after the first epoch, and half of it when all losses have halved. For a
    first loss below 0 its size counts: less is better there too. A loss that is 0, or
    isn't finite, is no first one. Where a loss isn't finite, this one is `nan`.

    Args:
        branches: The branches' names.

    Attributes:
        first: The first losses by the name of their log, of training and validation.
    """

    def __init__(self, branches: Sequence[str]) -> None:
        self.branches = list(branches)
        self.first: dict[str, float] = {}

    def to_array(self) -> np.ndarray:
        """`(2, K)` float64: the first losses of training and validation, or `nan`."""
        return np.array(
            [
                [
                    self.first.get(f"{prefix}{branch}_loss", np.nan)
                    for branch in self.branches
                ]
                for prefix in ("", "val_")
            ]
        )

    def load(self, array: np.ndarray) -> None:
        """Sets the first losses to those of `to_array`."""
        self.first.clear()
        for prefix, losses in zip(
            ("", "val_"), np.asarray(array).tolist(), strict=True
        ):
            for branch, loss in zip(self.branches, losses, strict=True):
                if math.isfinite(loss):
                    self.first[f"{prefix}{branch}_loss"] = loss

    def of(self, losses: Mapping[str, float], prefix: str = "") -> dict[str, float]:
        """The log of one epoch.

        Args:
            losses: The mean of each branch by `<branch>_loss`; empty if there is none.
            prefix: `"val_"` for those of validation.
        """
        parts = []
        for branch in self.branches if losses else ():
            log = f"{prefix}{branch}_loss"
            loss = losses[f"{branch}_loss"]
            if math.isfinite(loss) and loss != 0:
                self.first.setdefault(log, loss)
            if log in self.first:
                first = self.first[log]
                parts.append(1 + (loss - first) / abs(first))
            else:
                parts.append(loss)  # 0, or not finite
        mean = sum(parts) / len(parts) if parts else 0.0
        return {f"{prefix}{RELATIVE_LOSS}": mean} if losses else {}
