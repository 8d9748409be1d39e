"""What all pictures share: matplotlib, the branches' lines and the legend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

# Seven of the colors of Okabe and Ito, which color-blind people tell apart. Their
# yellow isn't seen well on white. A marker tells apart branches of the same color.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = (".", "s", "^", "D", "v", "P", "X", "*")
_INCHES_A_LETTER, _INCHES_A_LINE, _INCHES_OF_A_SAMPLE = 0.09, 0.22, 0.7


def new_figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches, unknown to `pyplot`.

    Raises:
        ValueError: If matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "A picture needs Matplotlib, which isn't installed. Install it: "
            "`pip install matplotlib`."
        ) from error
    return Figure((width, height), layout="constrained")


def line_of(index: int) -> dict[str, Any]:
    """Color and marker of the branch with this number, as `Axes.plot` takes them."""
    marker = MARKERS[index // len(COLORS) % len(MARKERS)]
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": marker,
        "markersize": 5 if marker == "." else 4,
    }


class Legend:
    """One legend below all panels, in as many columns as its names leave room for.

    Args:
        entries: The names to show, of any length, and their lines, as `Axes.plot`
            takes them.
        width: Width of the figure in inches.

    Attributes:
        height: What it takes of the figure's height, in inches.
    """

    def __init__(
        self, entries: Sequence[tuple[str, dict[str, Any]]], width: float
    ) -> None:
        self.styles = [style for _, style in entries]
        letters = int((width - _INCHES_OF_A_SAMPLE) / _INCHES_A_LETTER)
        self.labels = [textwrap.fill(name, letters) for name, _ in entries]
        lines = [label.split("\n") for label in self.labels]
        longest = max(len(line) for label in lines for line in label)
        column = _INCHES_OF_A_SAMPLE + _INCHES_A_LETTER * longest
        self.columns = max(1, min(len(entries), int(width / column)))
        rows = -(-len(entries) // self.columns)
        self.height = _INCHES_A_LINE * (1 + rows * max(map(len, lines)))

    def draw(self, figure: Any) -> None:
        """Draws it on the figure."""
        from matplotlib.lines import Line2D

        legend = figure.legend(
            [Line2D([], [], **style) for style in self.styles],
            self.labels,
            loc="outside lower center",
            ncols=self.columns,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may have two `$`
