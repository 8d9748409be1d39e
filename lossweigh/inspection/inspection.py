"""What `training.inspect` returns: losses, gradient norms and cosines, by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lossweigh.inspection import pictures
from lossweigh.inspection.branch_gradients import Measurement

# With more branches than these, each branch has one cosine instead of one a pair.
MOST_PAIRED = 5


class Inspection:
    """Losses and gradients of the branches, measured on some batches.

    Each number is a mean over the batches. A batch without any label of a branch
    doesn't count for it; one whose loss or gradient isn't finite makes the mean `nan`.
    Print it to see a table.

    Args:
        branches: The branches' names.
        measurements: One for each batch.
        num_parameters: How many numbers the shared variables hold.

    Attributes:
        branches: The branches' names.
        losses: `(batches, K)` float64, not weighted; `nan` where nothing counts.
        gradient_norms: `(batches, K)` float64, the lengths of the gradients of the
            branches' losses with regard to all shared parameters, not weighted.
        cosines: `(batches, K, K)` float64, from -1, opposed, to 1; `nan` where a
            gradient is 0, as that of a batch without labels.
        num_parameters: How many shared parameters there are.
    """

    def __init__(
        self,
        branches: Sequence[str],
        measurements: Iterable[Measurement],
        num_parameters: int,
    ) -> None:
        measurements = list(measurements)
        self.branches = list(branches)
        self.num_parameters = num_parameters
        self._counts = np.stack([one.counts for one in measurements])
        losses = np.stack([one.losses for one in measurements])
        self.losses = np.where(self._counts > 0, losses, np.nan)
        gramians = np.stack([sum(one.gramians.values()) for one in measurements])
        self.gradient_norms = _norms(gramians)
        self.cosines = _cosines(gramians)
        self._layer_norms = {
            layer: _norms(np.stack([one.gramians[layer] for one in measurements]))
            for layer in measurements[0].gramians
        }

    @property
    def loss(self) -> dict[str, float]:
        """The mean loss of each branch, as `fit` logs it: over all that counts."""
        return self._by_branch(_mean(self.losses, self._counts))

    @property
    def gradient_norm(self) -> dict[str, float]:
        """The mean gradient norm of each branch at all shared parameters."""
        return self._by_branch(self._over_batches(self.gradient_norms))

    @property
    def gradient_norm_by_layer(self) -> dict[str, dict[str, float]]:
        """The same at the shared parameters of each layer, by layer and branch."""
        return {
            layer: self._by_branch(self._over_batches(norms))
            for layer, norms in self._layer_norms.items()
        }

    @property
    def cosine(self) -> dict[str, dict[str, float]]:
        """The mean cosine of each pair of branches; of a branch with itself 1."""
        has_gradient = self.gradient_norms != 0
        both = has_gradient[:, :, None] & has_gradient[:, None, :]
        means = _mean(self.cosines, both)
        return {
            branch: self._by_branch(row)
            for branch, row in zip(self.branches, means, strict=True)
        }

    @property
    def lowest_cosine(self) -> dict[str, tuple[str, float]]:
        """For each branch the other one that it conflicts with most, and the cosine."""
        lowest = {}
        for branch, row in self.cosine.items():
            others = {other: value for other, value in row.items() if other != branch}
            if others:
                known = {o: v for o, v in others.items() if not np.isnan(v)} or others
                lowest[branch] = min(known.items(), key=lambda pair: pair[1])
        return lowest

    def to_dict(self) -> dict[str, Any]:
        """The means as plain numbers.

        Returns:
            `{"loss": {branch: float}, "gradient_norm": {branch: float}, "cosine":
            {branch: {branch: float}}}`.
        """
        return {
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
            "cosine": self.cosine,
        }

    def to_logs(self) -> dict[str, float]:
        """The norms and cosines under the names that `GradientReport` logs.

        Returns:
            `<branch>_gradient_norm`, and for at most 5 branches `<a>_<b>_cosine` for
            each pair, for more `<branch>_lowest_cosine`. The latter also where two
            pairs would have one name, as `a`, `b_c` and `a_b`, `c` would.
        """
        logs = {f"{b}_gradient_norm": norm for b, norm in self.gradient_norm.items()}
        if logs_pairs(self.branches):
            cosine = self.cosine
            for one, other in itertools.combinations(self.branches, 2):
                logs[f"{one}_{other}_cosine"] = cosine[one][other]
        else:
            for branch, (_, value) in self.lowest_cosine.items():
                logs[f"{branch}_lowest_cosine"] = value
        return logs

    def plot(self) -> Any:
        """A picture: the norms as bars, the cosines as a map of colours.

        Returns:
            A `matplotlib.figure.Figure`. Save it by its `savefig`.

        Raises:
            ValueError: If matplotlib isn't installed.
        """
        return pictures.inspection_figure(
            self.branches, self.gradient_norm, self.cosine, self.loss
        )

    def __str__(self) -> str:
        layers = _counted(len(self._layer_norms), "shared layer", "shared layers")
        batches = _counted(len(self.losses), "batch", "batches")
        lines = [
            f"{_counted(len(self.branches), 'branch', 'branches')} at {layers} with "
            f"{self.num_parameters:,} parameters, mean of {batches}:",
            "",
            *_table(self._rows()),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _rows(self) -> list[list[str]]:
        loss, norm, cosine = self.loss, self.gradient_norm, self.cosine
        paired = len(self.branches) <= MOST_PAIRED
        heads = [f"cosine with {b}" for b in self.branches[1:]]
        rows = [["branch", "loss", "gradient norm"]]
        rows[0] += heads if paired else ["lowest cosine"]
        for index, branch in enumerate(self.branches):
            row = [branch, f"{loss[branch]:.4g}", f"{norm[branch]:.4g}"]
            if paired:
                row += [
                    f"{cosine[branch][other]:+.2f}" if later > index else ""
                    for later, other in enumerate(self.branches)
                    if later > 0
                ]
            else:
                other, value = self.lowest_cosine[branch]
                row.append(f"{value:+.2f} with {other}")
            rows.append(row)
        return rows

    def _by_branch(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.branches, values.tolist(), strict=True))

    def _over_batches(self, values: np.ndarray) -> np.ndarray:
        return _mean(values, self._counts > 0)


def logs_pairs(branches: Sequence[str]) -> bool:
    """Whether logs have each pair's cosine, and not each branch's lowest.

    They have while there are few branches, and if no two pairs have the same name.
    """
    names = ["_".join(pair) for pair in itertools.combinations(branches, 2)]
    return len(branches) <= MOST_PAIRED and len(set(names)) == len(names)


def _norms(gramians: np.ndarray) -> np.ndarray:
    """`(batches, K)` of `(batches, K, K)`."""
    return np.sqrt(np.diagonal(gramians, axis1=1, axis2=2))


def _cosines(gramians: np.ndarray) -> np.ndarray:
    norms = _norms(gramians)
    lengths = norms[:, :, None] * norms[:, None, :]
    cosines = np.full_like(gramians, np.nan)
    np.divide(gramians, lengths, out=cosines, where=lengths > 0)
    return np.clip(cosines, -1.0, 1.0)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Over the first axis; `nan` where all weights are 0."""
    total = np.where(weights > 0, values * weights, 0.0).sum(axis=0)
    means = np.full(total.shape, np.nan)
    np.divide(total, weights.sum(axis=0), out=means, where=weights.sum(axis=0) > 0)
    return means


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
