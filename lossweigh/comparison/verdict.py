"""What the table says, in a few plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lossweigh.comparison.candidates import EQUAL
from lossweigh.comparison.intervals import Change, percent
from lossweigh.comparison.rows import Row

NEGLIGIBLE = 0.001  # a change below a thousandth is none, however sure it is

CLOSE_TO_0 = 0.01  # of what is usual; then changes are parts of next to nothing

MUCH = 0.05  # a change that is worth looking for with more seeds


def is_better(change: Change | None) -> bool:
    """Whether something gained more than the noise of the seeds, and not next to 0."""
    return change is not None and change.is_real and change.mean >= NEGLIGIBLE


def is_worse(change: Change | None) -> bool:
    """Whether something lost more than the noise of the seeds, and not next to 0."""
    return change is not None and change.is_real and change.mean <= -NEGLIGIBLE


def verdict(rows: Sequence[Row], num_seeds: int) -> str:
    """Says which candidates beat equal weights, or that none does.

    Args:
        rows: The table.
        num_seeds: Over how many seeds the noise was estimated.
    """
    sentences = [*_comparison(rows, num_seeds), *_missing(rows)]
    return " ".join(sentences)


def _comparison(rows: Sequence[Row], num_seeds: int) -> list[str]:
    equal = next(row for row in rows if row.name == EQUAL)
    if not equal.is_finished:
        return [
            f"Nothing can be compared: equal weights {equal.status} ({equal.reason})."
        ]
    compared = [row for row in rows if row.change is not None]
    if not compared:
        return ["Nothing can be compared with equal weights: no other candidate ended."]
    for output in equal.branches:
        if _is_close_to_0(output, equal, compared):
            return [
                f"Nothing can be said of the mean change: the metric of `{output}` is "
                f"close to 0 for equal weights ({equal.branches[output].mean:.2g}), so "
                "changes as parts of it mean nothing. Take another metric for it."
            ]
    best = max(compared, key=_gain)
    if num_seeds < 2:
        return [
            f"One seed tells nothing about noise. In this one the best candidate is "
            f"{_shown(best)}. Take 5 seeds or more to compare."
        ]
    winners = sorted(filter(_wins, compared), key=_gain, reverse=True)
    sentences = [_winner(row) for row in winners]
    if not winners:
        sentences = [
            f"Nothing beats equal weights by more than the noise of {num_seeds} seeds.",
            f"The best candidate is {_shown(best)}.",
        ]
        losers = [row for row in compared if is_worse(row.change)]
        if len(losers) == len(compared):
            sentences[-1] = f"The least bad candidate is {_shown(best)}."
        sentences.append(_advice(best))
    worse = [f"`{row.name}`" for row in compared if is_worse(row.change)]
    if worse:
        sentences.append(
            f"Worse than equal weights by more than the noise: {', '.join(worse)}."
        )
    return sentences


def _is_close_to_0(output: str, equal: Row, compared: Sequence[Row]) -> bool:
    """Whether a metric of equal weights is too small to be divided by.

    It is if it is next to nothing beside that of all candidates, or has either sign.
    """
    values = equal.branches[output].values
    sizes = [np.abs(row.branches[output].values).mean() for row in [equal, *compared]]
    is_small = abs(equal.branches[output].mean) < CLOSE_TO_0 * float(np.median(sizes))
    return is_small or min(values) < 0.0 < max(values)


def _advice(best: Row) -> str:
    """To keep equal weights; and whether more seeds could say something else."""
    high = None if best.change is None else best.change.high
    if high is None or high < MUCH:
        return "Keep equal weights."
    return (
        "Keep equal weights, or take more seeds: a change up to "
        f"{percent(high)} isn't ruled out."
    )


def _gain(row: Row) -> float:
    return row.change.mean if row.change is not None else 0.0


def _wins(row: Row) -> bool:
    return is_better(row.change)


def _winner(row: Row) -> str:
    sentence = f"{_shown(row)} beats equal weights"
    if len(row.branches) < 2 or row.worst_branch is None:
        return f"{sentence}."
    change = row.branches[row.worst_branch].change
    if change is None:
        return f"{sentence}."
    worst = f"its worst branch, `{row.worst_branch}`, changes by {percent(change.mean)}"
    if is_worse(change):
        return f"{sentence} on average, but {worst}, which is more than the noise."
    return f"{sentence}; {worst}."


def _shown(row: Row) -> str:
    """A candidate with its change."""
    change = row.change
    if change is None:
        return f"`{row.name}`"
    if change.low is None or change.high is None:
        return f"`{row.name}` ({percent(change.mean)})"
    low, high = percent(change.low), percent(change.high)
    return f"`{row.name}` ({percent(change.mean)}, {low} to {high})"


def _missing(rows: Sequence[Row]) -> list[str]:
    return [
        f"`{row.name}` {row.status}: {row.reason.rstrip('.')}."
        for row in rows
        if not row.is_finished and row.name != EQUAL
    ]
