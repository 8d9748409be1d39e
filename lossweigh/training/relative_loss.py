"""One number for all branches that means the same whatever their units are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

RELATIVE_LOSS = "relative_loss"


class RelativeLoss:
    """The mean over the branches of each loss in parts of its first.

    It is 1 after the first epoch, and half of it when all losses have halved. For a
    first loss below 0 its size counts: less is better there too. A loss that is 0 is no
    first one, and one that isn't finite is left out.

    Args:
        branches: The branches' names.

    Attributes:
        first: The first losses by the name of their log, of training and validation.
    """

    def __init__(self, branches: Sequence[str]) -> None:
        self.branches = list(branches)
        self.first: dict[str, float] = {}

    def of(self, losses: Mapping[str, float], prefix: str = "") -> dict[str, float]:
        """The log of one epoch, empty where no loss is known.

        Args:
            losses: Means by `<branch>_loss`.
            prefix: `"val_"` for those of validation.
        """
        parts = []
        for branch in self.branches:
            log = f"{prefix}{branch}_loss"
            loss = losses.get(f"{branch}_loss", math.nan)
            if not math.isfinite(loss):
                continue
            if loss != 0:
                self.first.setdefault(log, loss)
            if log in self.first:
                first = self.first[log]
                parts.append(1 + (loss - first) / abs(first))
        if not parts:
            return {}
        return {f"{prefix}{RELATIVE_LOSS}": sum(parts) / len(parts)}
