"""The picture of an inspection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossweigh.plots.style import COLORS, new_figure

_INK = "#333333"


def inspection_figure(
    branches: Sequence[str],
    norms: Mapping[str, float],
    cosines: Mapping[str, Mapping[str, float]],
    losses: Mapping[str, float],
) -> Any:
    """Bars of gradient norms beside a map of cosines.

    Args:
        branches: The branches' names.
        norms: The gradient norm of each.
        cosines: The cosine of each pair.
        losses: The loss of each.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    number = len(branches)
    size = max(3.2, 0.42 * number + 1.6)
    figure = new_figure(4.2 + size + 0.8, size)
    left, right = figure.subplots(1, 2, width_ratios=[4.2, size + 0.8])
    places = np.arange(number)
    values = [norms[branch] for branch in branches]
    left.barh(places, values, color=COLORS[0], height=0.6)
    left.set_yticks(places, [_short(branch) for branch in branches])
    left.set_ylim(number - 0.4, -0.6)
    positive = [value for value in values if value > 0]
    if positive and max(positive) > 100 * min(positive):
        left.set_xscale("log")
    left.set_title("Gradient norm at the shared layers", fontsize=10)
    left.spines[["top", "right"]].set_visible(False)
    left.bar_label(
        left.containers[0],
        [f" {norms[b]:.3g}  (loss {losses[b]:.3g})" for b in branches],
        fontsize=8,
        color=_INK,
    )
    left.margins(x=0.55)

    table = np.array([[cosines[a][b] for b in branches] for a in branches])
    image = right.imshow(table, cmap="RdBu", vmin=-1, vmax=1)
    labels = [_short(branch) for branch in branches]
    right.set_xticks(places, labels, rotation=90 if number > 4 else 0)
    right.set_yticks(places, labels)
    right.set_title("Cosine of the gradients (below 0: they conflict)", fontsize=10)
    if number <= 12:
        for (row, column), value in np.ndenumerate(table):
            text = "-" if np.isnan(value) else f"{value:+.2f}"
            color = "white" if abs(value) > 0.6 else _INK
            right.text(
                column, row, text, ha="center", va="center", fontsize=8, color=color
            )
    figure.colorbar(image, ax=right, shrink=0.8)
    return figure


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
