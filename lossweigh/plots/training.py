"""The picture of one training."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lossweigh.plots.branch_logs import COSINE, Line, branches_of, panels_of
from lossweigh.plots.sources import read
from lossweigh.plots.style import Legend, line_of, new_figure

_WIDTH, _HEIGHT = 4.2, 2.9  # of a panel, in inches
_MANY = 10  # branches, above which panels are half as large again
_SPREAD = 30  # greatest by smallest, above which a scale is logarithmic
_MOST_MARKERS = 20  # on a line
_TITLES = {COSINE: "cosine of two branches' gradients"}
_WITH_LOG_SCALE = {"loss", "weight", "balance", "gradient_norm"}
_NOTES = [
    ("training", {"color": "grey", "linestyle": "-"}),
    ("validation", {"color": "grey", "linestyle": "--"}),
]


def plot_training(history: Any, *, path: str | os.PathLike[str] | None = None) -> Any:
    """Draws what `fit` logged of each branch, over the epochs or the steps.

    There is a panel for each quantity that the logs have: the branch losses, their
    weights, the balance (the weights of the branches' gradients), gradient norms and
    cosines, and each metric. A branch has the same line in all of them. Validation is
    dashed. The cosine of two branches is a line of both their colors. Losses, weights,
    balance and norms are on a logarithmic scale if they are positive and one is more
    than 30 times another. A number that isn't finite is a gap.

    Args:
        history: The `keras.callbacks.History` that `fit` returns, its `.history`, the
            path of a `keras.callbacks.CSVLogger`'s file, of a
            `keras.callbacks.TensorBoard`'s folder (which needs tensorboard), or of a
            `lossweigh.callbacks.HDF5Logger`'s file. A History
            doesn't say which epochs have a key that not all have. It is taken to be in
            each second, or third, ... as `fit(validation_freq=...)` does it. An
            HDF5Logger's rows are drawn over the steps. Of more than 1000 rows several
            are one point, their mean at the last one's step.
        path: Where to write the picture, such as `"training.png"`. Default: nowhere.

    Returns:
        The `matplotlib.figure.Figure`. `pyplot` doesn't know it, so nothing is shown
        and nothing is left to close.

    Raises:
        TypeError: If `history` is none of these.
        ValueError: If it has no epoch or no branch, the file is neither logger's, or
            Matplotlib isn't installed: `pip install matplotlib`.

    Examples:
        >>> figure = plot_training(
        ...     {
        ...         "loss": [2.0, 1.0],
        ...         "box_loss": [0.4, 0.1],
        ...         "label_loss": [2.3, 1.9],
        ...         "box_weight": [1.0, 3.0],
        ...         "label_weight": [1.0, 0.6],
        ...     }
        ... )
        >>> [axes.get_title() for axes in figure.axes]
        ['loss', 'weight']
    """
    over, logs = read(history)
    panels = panels_of(logs)
    branches = branches_of(logs)
    styles = {branch: line_of(index) for index, branch in enumerate(branches)}
    entries = list(styles.items())
    if any(line.is_validation for lines in panels.values() for line in lines):
        entries += _NOTES
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    rows = -(-len(panels) // columns)
    scale = 1.5 if len(branches) > _MANY or len(panels) == 1 else 1.0
    width = scale * _WIDTH * columns
    legend = Legend(entries, width)
    figure = new_figure(width, scale * _HEIGHT * rows + legend.height)
    for index, (quantity, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, quantity, lines, styles, over)
    legend.draw(figure)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _draw_panel(
    axes: Any,
    quantity: str,
    lines: list[Line],
    styles: dict[str, dict[str, Any]],
    over: str,
) -> None:
    """Draws one quantity's lines over what their numbers belong to, such as epochs."""
    for line in lines:
        first, *second = [styles[branch] for branch in line.branches]
        dashes: Any = "--" if line.is_validation else "-"
        axes.plot(
            line.epochs,
            line.values,
            label=" and ".join(line.branches),
            linestyle=(0, (5, 5)) if second else dashes,
            gapcolor=second[0]["color"] if second else None,
            linewidth=1.8 if second else 1.4,
            markevery=_every(line),
            **first,
        )
    axes.set_title(_TITLES.get(quantity, quantity.replace("_", " ")), parse_math=False)
    axes.set_xlabel(over)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    epochs = np.concatenate([line.epochs for line in lines])
    if epochs.min() == epochs.max():
        axes.set_xticks([epochs[0]])
    values = np.concatenate([line.values for line in lines])
    least, most = np.nanmin(values), np.nanmax(values)
    wide = least > 0 and most > _SPREAD * least
    if wide and quantity.partition("_at_")[0] in _WITH_LOG_SCALE:
        axes.set_yscale("log")
    if COSINE in quantity:
        axes.set_ylim(-1.05, 1.05)
        axes.axhline(0, color="grey", linewidth=0.8, zorder=1)


def _every(line: Line) -> int:
    """At how many epochs there is a marker: at each, if a number may have no line."""
    if np.isnan(line.values).any():
        return 1
    return -(-len(line.epochs) // _MOST_MARKERS)
