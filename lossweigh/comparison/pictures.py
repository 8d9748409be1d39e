"""A comparison in pictures: changes with their intervals, and the trade-off."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lossweigh.comparison.candidates import EQUAL
from lossweigh.comparison.extras import need
from lossweigh.comparison.intervals import Change
from lossweigh.comparison.rows import Row
from lossweigh.comparison.verdict import is_better, is_worse

if TYPE_CHECKING:
    from lossweigh.comparison.comparison import Comparison

BETTER, WORSE, NEITHER = "#1a7f37", "#b3261e", "#57606a"
MOST_PANELS = 12  # of branches; more would be too small to read


def plot_comparison(comparison: Comparison, columns: int = 2) -> Any:
    """The change of each candidate against equal weights, with its interval.

    One panel for the mean over the branches and one for each branch (the first 12).
    Green is better than equal weights by more than the noise of the seeds, red is
    worse.

    Args:
        comparison: What `compare` returned.
        columns: How many panels are beside each other.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    rows = _compared(comparison)
    outputs = list(comparison.metrics)[:MOST_PANELS]
    panels = {"mean over the branches": [row.change for row in rows]}
    if len(comparison.metrics) == 1:
        panels = {}
    for output in outputs:
        panels[output] = [row.branches[output].change for row in rows]
    across = min(len(panels), columns)
    down = -(-len(panels) // across)
    height = 0.9 + 0.34 * max(len(rows), 2)
    figure = _figure(width=3.0 * across + 1.6, height=height * down)
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis, (title, changes) in zip(axes, panels.items(), strict=False):
        _draw_changes(axis, changes)
        axis.set_title(textwrap.fill(title, 28), fontsize=10)
        axis.set_yticks(range(len(rows)), [textwrap.fill(row.name, 20) for row in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("better than equal weights by (%)", fontsize=10)
    return figure


def plot_pareto(comparison: Comparison) -> Any:
    """The candidates by what they gain and what it costs.

    With two branches, the change of one against that of the other; with more, the mean
    change against that of the worst branch; with one, its change against the time of a
    step. A filled circle is a candidate that no other beats in every branch.

    Args:
        comparison: What `compare` returned.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    rows = [row for row in comparison.rows if row.name == EQUAL and row.is_finished]
    rows += _compared(comparison)
    outputs = list(comparison.metrics)
    figure = _figure(width=5.4, height=3.8)
    axis = figure.subplots()
    best = {row.name for row in rows if not _is_beaten(row, rows)}
    for row in rows:
        x, y = _coordinates(row, outputs)
        color = BETTER if is_better(row.change) else NEITHER
        color = WORSE if is_worse(row.change) else color
        face = color if row.name in best else "white"
        axis.plot(x, y, "o", color=color, markerfacecolor=face, markersize=8)
    _name_beside(axis, {row.name: _coordinates(row, outputs) for row in rows})
    axis.axvline(0, color="#d0d7de", zorder=0)
    axis.axhline(1 if len(outputs) == 1 else 0, color="#d0d7de", zorder=0)
    x_label, y_label = _labels(outputs)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.margins(x=0.1, y=0.1)
    return figure


def _figure(width: float, height: float) -> Any:
    size = (width, height)
    return need("matplotlib.figure").Figure(figsize=size, layout="constrained")


def _compared(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.rows if row.change is not None]


def _draw_changes(axis: Any, changes: list[Change | None]) -> None:
    axis.axvline(0, color="#8c959f", linewidth=1)
    axis.grid(axis="x", color="#eaeef2")
    axis.set_axisbelow(True)
    for height, change in enumerate(changes):
        if change is None:
            continue
        color = BETTER if is_better(change) else NEITHER
        color = WORSE if is_worse(change) else color
        if change.low is not None and change.high is not None:
            ends = [100 * change.low, 100 * change.high]
            axis.plot(ends, [height, height], color=color, linewidth=2)
        axis.plot(100 * change.mean, height, "o", color=color, markersize=5)


def _gains(row: Row) -> list[float]:
    """The change of each branch, 0 for equal weights."""
    changes = [branch.change for branch in row.branches.values()]
    return [0.0 if change is None else change.mean for change in changes]


def _is_beaten(row: Row, rows: list[Row]) -> bool:
    """Whether another is at least as good in each branch, and better in one."""
    mine = _gains(row)
    return any(
        _gains(other) != mine
        and all(a >= b for a, b in zip(_gains(other), mine, strict=True))
        for other in rows
    )


def _coordinates(row: Row, outputs: list[str]) -> tuple[float, float]:
    gains = [100 * gain for gain in _gains(row)]
    if len(outputs) == 1:
        return gains[0], row.step_cost or 1.0
    if len(outputs) == 2:
        return gains[0], gains[1]
    return sum(gains) / len(gains), min(gains)


def _name_beside(axis: Any, points: dict[str, tuple[float, float]]) -> None:
    """Writes the points' names beside the picture, where they can't overlap."""
    in_order = sorted(points, key=lambda name: points[name][1])
    for index, name in enumerate(in_order):
        axis.annotate(
            textwrap.fill(name, 18),
            points[name],
            xytext=(1.04, (index + 0.5) / len(in_order)),
            textcoords="axes fraction",
            fontsize=9,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.7},
        )


def _labels(outputs: list[str]) -> tuple[str, str]:
    better = "better than equal weights by (%)"
    if len(outputs) == 1:
        return f"{outputs[0]}: {better}", "time of a step, equal weights' = 1"
    if len(outputs) == 2:
        return f"{outputs[0]}: {better}", f"{outputs[1]}: {better}"
    return f"mean over the branches: {better}", f"worst branch: {better}"
