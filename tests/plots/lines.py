"""What a figure shows, read from its lines."""

import numpy as np
from matplotlib.colors import to_hex

GREY = to_hex("grey")


def lines_of(figure):
    """For each panel's title its lines: (branch, line style) -> (epochs, values)."""
    return {
        axes.get_title(): {
            (line.get_label(), line.get_linestyle()): np.array(line.get_data())
            for line in drawn(axes)
        }
        for axes in figure.axes
    }


def drawn(axes):
    """The lines but for the one at 0."""
    return [line for line in axes.lines if to_hex(line.get_color()) != GREY]


def looks(line):
    """What tells a branch's line from the others'."""
    return to_hex(line.get_color()), line.get_marker()


def legend_of(figure):
    """The looks of each name in the legend."""
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    lines = legend.get_lines()
    return {text: looks(line) for text, line in zip(texts, lines, strict=True)}


def same_lines(one, other):
    """Two figures' panels show the same, to what a CSV keeps of a number."""
    assert list(one) == list(other)
    for title, lines in one.items():
        assert lines.keys() == other[title].keys(), title
        for key, points in lines.items():
            np.testing.assert_allclose(points, other[title][key], rtol=1e-6)
