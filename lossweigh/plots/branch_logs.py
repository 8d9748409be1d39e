"""Which branch, and what of it, a key of the logs stands for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping

import numpy as np

from lossweigh.plots.sources import Series

# The quantities that lossweigh logs, in the order of their panels. Metrics follow.
COSINE = "cosine"
QUANTITIES = ("loss", "weight", "balance", "gradient_norm", COSINE, "lowest_cosine")
_TOTALS = {"weighted", "unweighted", "relative"}  # `unweighted_loss` is of no branch
# What `compile(log=["gradients"])` adds to the names, and `GradientReport` doesn't.
_LEVELS = ("", "_at_representation", "_at_parameters", "_at_calibrated")


@dataclasses.dataclass(frozen=True)
class Line:
    """One quantity of a branch, or of a pair of branches, over the epochs.

    Attributes:
        branches: The name of the branch, or of the two.
        is_validation: Whether the numbers are of validation data.
        epochs: `(n,)`, from 1.
        values: `(n,)`; what isn't finite is `nan`.
    """

    branches: tuple[str, ...]
    is_validation: bool
    epochs: np.ndarray
    values: np.ndarray


def branches_of(keys: Collection[str]) -> list[str]:
    """The names of the branches, from the keys of the logs.

    They are the names before `_loss`. A metric may be named `label_my_loss` too: if the
    branches' weights, balance or gradient norms are logged, a branch has these as well.
    """
    trained = [key for key in keys if not _is_validation(key, keys)]

    def names_before(ending: str) -> list[str]:
        return [key.removesuffix(ending) for key in trained if key.endswith(ending)]

    branches = [name for name in names_before("_loss") if name not in _TOTALS]
    norms = [f"gradient_norm{level}" for level in _LEVELS]
    for quantity in ("weight", "balance", *norms):
        names = names_before(f"_{quantity}")
        branches = [name for name in branches if name in names] or branches or names
    return branches


def panels_of(logs: Mapping[str, Series]) -> dict[str, list[Line]]:
    """The lines of each quantity that has numbers, in the order of the panels.

    Raises:
        ValueError: If no key is of a branch.
    """
    branches = branches_of(logs)
    pairs = {
        f"{first}_{second}_{COSINE}{level}": ((first, second), f"{COSINE}{level}")
        for first, second in itertools.permutations(branches, 2)
        for level in _LEVELS
    }
    longest_first = sorted(branches, key=len, reverse=True)
    panels: dict[str, list[Line]] = {quantity: [] for quantity in QUANTITIES}
    for key, (epochs, values) in logs.items():
        is_validation = _is_validation(key, logs)
        name = key.removeprefix("val_") if is_validation else key
        branch = next((b for b in longest_first if name.startswith(f"{b}_")), None)
        names: tuple[str, ...]
        if name in pairs:
            names, quantity = pairs[name]
        elif branch is not None:
            names, quantity = (branch,), name.removeprefix(f"{branch}_")
        else:
            continue
        is_finite = np.isfinite(values)
        if is_finite.any():
            line = Line(
                names, is_validation, epochs, np.where(is_finite, values, np.nan)
            )
            panels.setdefault(quantity, []).append(line)
    if not branches or not any(panels.values()):
        raise ValueError(
            "`history` must have a finite number of at least one branch, as "
            f"`<branch>_loss`. Received the keys {sorted(logs)}. Does it come from a "
            "training model of `build_training_model`?"
        )
    return {quantity: lines for quantity, lines in panels.items() if lines}


def _is_validation(key: str, keys: Collection[str]) -> bool:
    """A branch may be named `val_x`; then there is no key `x_loss`."""
    return key.startswith("val_") and key.removeprefix("val_") in keys
