"""Applies the rule of `default_rule.md` to what the `compare_*.py` scripts found.

    python benchmarks/default_rule.py

Prints how it was decided, and writes the table that the documentation shows.
"""

import argparse
import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "methods" / "comparison-table.md"
EQUAL = "equal"
NOT_ELIGIBLE = ("fixed, searched", "UPGrad, parameters / 10")
COUNTED = {
    "enb": "energy of buildings",
    "jura": "metals in soil",
    "wq": "river plants",
    "atp1d": "air fares",
    "qm9": "QM9",
    "tox21": "Tox21",
    "overlapping": "two pictures",
    "cells": "blood cells",
    "speakers": "speakers",
}
ALSO = {"qm9_raw": "QM9 in its units"}
MARGIN = 0.01


def summary(results, name):
    """What the rule looks at, of one candidate.

    Args:
        results: What `Comparison.to_json` wrote, by data set.
        name: The candidate's.

    Returns:
        A dict with the data sets on which it is below equal weights by more than the
        noise or isn't finished, the worst branch's change, and the mean change.
    """
    if name == EQUAL:
        return {"out": [], "worst": 0.0, "mean": 0.0}
    rows = {data: result["candidates"][name] for data, result in results.items()}
    out = [data for data, row in rows.items() if is_out(row)]
    finished = [row for row in rows.values() if row["change"] is not None]
    branches = [
        branch["change"]["mean"]
        for row in finished
        for branch in row["branches"].values()
    ]
    means = [row["change"]["mean"] for row in finished]
    return {"out": out, "worst": min(branches), "mean": sum(means) / len(means)}


def is_out(row):
    """Whether the first point of the rule takes a candidate out."""
    change = row["change"]
    return change is None or (change["mean"] < 0 and change["high"] < 0)


def decide(results):
    """The default's name, and the summaries of all that are eligible."""
    names = next(iter(results.values()))["candidates"]
    summaries = {n: summary(results, n) for n in names if n not in NOT_ELIGIBLE}
    left = {name: one for name, one in summaries.items() if not one["out"]}
    best = max(one["worst"] for one in left.values())
    near = {n: one["mean"] for n, one in left.items() if one["worst"] > best - MARGIN}
    return max(near, key=near.get), summaries


def percent(value):
    return f"{round(100 * value, 1) + 0.0:+.1f}"  # no -0.0


def cell(row):
    """A mean change with its interval, bold where that leaves out 0."""
    change = row["change"]
    if change is None:
        return row["status"]
    text = percent(change["mean"])
    shown = f"**{text}**" if change["low"] > 0 or change["high"] < 0 else text
    worst = min(branch["change"]["mean"] for branch in row["branches"].values())
    return f"{shown} ({percent(worst)})"


def table(results, titles):
    """Markdown: a row a candidate, a column a data set."""
    names = [n for n in next(iter(results.values()))["candidates"] if n != EQUAL]
    lines = ["| | " + " | ".join(titles[data] for data in results) + " |"]
    lines.append("|---|" + "---:|" * len(results))
    for name in names:
        cells = [cell(result["candidates"][name]) for result in results.values()]
        shown = name if "," in name else f"`{name}`"
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return lines


def missing(results):
    """Which data sets have no results yet, and what they can still change."""
    titles = [title for data, title in COUNTED.items() if data not in results]
    if not titles:
        return []
    return [
        f"Not measured yet: {', '.join(titles)}. Another data set can take a candidate "
        "out and make its worst branch worse, and never better.",
        "",
    ]


def not_counted(also):
    """The data that show something else."""
    if not also:
        return []
    return [
        "Not counted for the default, because targets should be standardised first:",
        "",
        *table(also, ALSO),
        "",
    ]


def advice(suggestions):
    """Markdown: what `suggest` proposed before training, and what it changed."""
    lines = ["| data | advice | change | worst branch |", "|---|---|---:|---:|"]
    titles = {**COUNTED, **ALSO}
    for data, found in suggestions.items():
        actions = list(dict.fromkeys(found["actions"]))
        words = ", ".join(action.replace("_", " ") for action in actions)
        change = found["change"]
        cells = ["", ""]
        if change is not None:
            mean = percent(change["mean"])
            is_real = change.get("low", 1) > 0 or change.get("high", -1) < 0
            cells = [f"**{mean}**" if is_real else mean, percent(change["worst"])]
        lines.append(f"| {titles[data]} | {words} | {' | '.join(cells)} |")
    return lines


def missed(results, suggestions):
    """Where `suggest` says equal weights, and something is better beyond the noise."""
    lines = []
    for data, result in results.items():
        if suggestions.get(data, {}).get("actions") != ["equal_weights"]:
            continue
        gains = {
            name: row["change"]["mean"]
            for name, row in result["candidates"].items()
            if row["change"] is not None and row["change"]["low"] > 0
        }
        if gains:
            best = max(gains, key=gains.get)
            lines += [
                "",
                f"It says equal weights for {COUNTED[data]}, where {best} gains "
                f"{percent(gains[best])}%: `suggest` sees gradients at the start of a "
                "training, and only `compare` trains.",
            ]
    return lines


def page(results, also, suggestions):
    """The Markdown page."""
    winner, summaries = decide(results)
    lines = [
        "# Weightings compared",
        "",
        "Written by `benchmarks/default_rule.py` from what `benchmarks/compare_*.py` "
        "found. Mean change against equal weights in percent, more is better; **bold** "
        "where the interval over five seeds leaves out 0; in brackets the branch with "
        "the least change.",
        "",
        *table(results, COUNTED),
        "",
        *missing(results),
        *not_counted(also),
        "## The default",
        "",
        "The rule was written before the results (`benchmarks/default_rule.md`): a "
        "default may not be below equal weights by more than the noise on any of these "
        "data; then the best worst branch counts, and within one point of it the mean.",
        "",
        "| | below equal weights on | worst branch | mean |",
        "|---|---|---:|---:|",
    ]
    for name, one in summaries.items():
        shown = "equal weights" if name == EQUAL else f"`{name}`"
        shown = f"**{shown}**" if name == winner else shown
        out = ", ".join(COUNTED[data] for data in one["out"]) or "none"
        lines.append(
            f"| {shown} | {out} | {percent(one['worst'])} | {percent(one['mean'])} |"
        )
    lines += [
        "",
        "## What `suggest` says",
        "",
        "Asked before any training, with 50 steps (`benchmarks/suggestions.py`), and "
        "what its advice changed. For equal weights that is nothing.",
        "",
        *advice(suggestions),
        *missed(results, suggestions),
    ]
    return "\n".join(lines) + "\n"


def read(names):
    """The results that there are, by name."""
    paths = {name: RESULTS / f"{name}.json" for name in names}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in paths.items()
        if path.is_file()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the Markdown file")
    options = parser.parse_args()
    suggestions = read(["suggestions"]).get("suggestions", {})
    text = page(read(COUNTED), read(ALSO), suggestions)
    print(text)
    options.out.write_text(text, encoding="utf-8")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
