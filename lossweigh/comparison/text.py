"""The table as text, and as records for a CSV file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lossweigh.comparison.intervals import Change, percent
from lossweigh.comparison.rows import Branch, Row

WIDTH = 88
WORDS = {"max": "more is better", "min": "less is better"}


def as_text(
    rows: Sequence[Row], metrics: Mapping[str, Mapping[str, str]], verdict: str
) -> str:
    """The verdict, a table over all branches and one for each branch."""
    parts = [textwrap.fill(verdict, WIDTH), _columns(summary(rows))]
    if told := warnings(rows):
        parts.append("\n".join(textwrap.fill(line, WIDTH) for line in told))
    for output, about in metrics.items():
        title = f"{output}: {about['metric']} ({WORDS[about['direction']]})"
        parts.append(f"{title}\n{_columns(of_branch(rows, output))}")
    return "\n\n".join(parts)


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each candidate, all branches together; the first has the titles."""
    titles = ["candidate", "mean change", "interval", "p", "worst branch"]
    lines = [[*titles, "step time", "chosen"]]
    for row in rows:
        if not row.is_finished:
            lines.append([row.name, f"{row.status}: {row.reason}"])
            continue
        worst = ""
        if row.worst_branch is not None:
            change = row.branches[row.worst_branch].change
            worst = f"{row.worst_branch} {gain(change)}"
        cost = "" if row.step_cost is None else f"x {row.step_cost:.2f}"
        cells = [gain(row.change), interval(row.change), p_value(row.change)]
        lines.append([row.name, *cells, worst, cost, chosen(row)])
    return lines


def warnings(rows: Sequence[Row]) -> list[str]:
    """What lossweigh warned of, a line for each candidate and warning."""
    return [f"`{row.name}`, {line}" for row in rows for line in row.warnings]


def of_branch(rows: Sequence[Row], output: str) -> list[list[str]]:
    """A line for each candidate that finished; the first has the titles."""
    lines = [["candidate", "mean", "spread", "change", "interval", "p"]]
    for row in rows:
        if row.is_finished:
            branch = row.branches[output]
            change = branch.change
            cells = [gain(change), interval(change), p_value(change)]
            lines.append([row.name, *mean_and_spread(branch), *cells])
    return lines


def mean_and_spread(branch: Branch) -> tuple[str, str]:
    """A branch's mean and standard deviation; with one seed no deviation."""
    spread = "" if branch.spread is None else f"{branch.spread:.2g}"
    return f"{branch.mean:.4g}", spread


def gain(change: Change | None) -> str:
    """The mean of a change."""
    return "" if change is None else percent(change.mean)


def interval(change: Change | None) -> str:
    """The interval of a change; nothing with one seed."""
    if change is None or change.low is None or change.high is None:
        return ""
    return f"{percent(change.low)} to {percent(change.high)}"


def p_value(change: Change | None) -> str:
    """The p-value of a change; nothing with one seed."""
    if change is None or change.p_value is None:
        return ""
    return "<0.001" if change.p_value < 0.001 else f"{change.p_value:.3f}"


def chosen(row: Row) -> str:
    """The setting that validation data chose."""
    weights = row.weights or {}
    shown = [f"{branch} {weight:.3g}" for branch, weight in weights.items()]
    return ", ".join([f"rate {row.learning_rate:.3g}", *shown])


def records(
    rows: Sequence[Row], metrics: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """A dict for each candidate and output, and one for the mean over the outputs."""
    for row in rows:
        candidate = {
            "candidate": row.name,
            "status": row.status,
            "reason": row.reason,
            "learning_rate": row.learning_rate,
            "weights": json.dumps(row.weights) if row.weights else None,
            "step_cost": row.step_cost,
        }
        yield {**candidate, **_values("(mean)", {}, None), **_change(row.change)}
        for output, branch in row.branches.items():
            values = _values(output, metrics[output], branch)
            yield {**candidate, **values, **_change(branch.change)}


def _values(
    output: str, about: Mapping[str, str], branch: Branch | None
) -> dict[str, Any]:
    return {
        "branch": output,
        "metric": about.get("metric"),
        "direction": about.get("direction"),
        "mean": None if branch is None else branch.mean,
        "spread": None if branch is None else branch.spread,
    }


def _change(change: Change | None) -> dict[str, Any]:
    return {
        "change": None if change is None else change.mean,
        "change_low": None if change is None else change.low,
        "change_high": None if change is None else change.high,
        "p_value": None if change is None else change.p_value,
    }


def _columns(lines: Sequence[Sequence[str]]) -> str:
    """Cells under each other; what follows a short line isn't part of a column."""
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[i]) for line in full) for i in range(len(lines[0]))]
    widths[0] = max(len(line[0]) for line in lines)
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=False)
        ).rstrip()
        for line in lines
    )
