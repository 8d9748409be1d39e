"""`Comparison`: what `compare` returns."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweigh.comparison import html, pictures, text
from lossweigh.comparison.metrics import Metric
from lossweigh.comparison.rows import Row, as_dict
from lossweigh.comparison.verdict import verdict


class Comparison:
    """The table of a comparison, and what it says. `print` shows both.

    A change is how much better than equal weights a candidate is, as a part of equal
    weights' value: 0.1 is 10% better, whether more of the metric is better or less. It
    has the mean over the seeds, an interval and a p-value, corrected after Holm for the
    number of candidates: the interval leaves out 0 if and only if `p_value < 0.05`.

    Attributes:
        rows: A `Row` for each candidate, equal weights first.
        metrics: By output its metric's `"metric"` and `"direction"`.
        how: The settings of the comparison by name, such as `"seeds"` and `"epochs"`.
        verdict: What the table says, in plain English.
    """

    def __init__(
        self, rows: Sequence[Row], metrics: Sequence[Metric], how: Mapping[str, Any]
    ) -> None:
        self.rows = list(rows)
        self.metrics = {
            m.output: {"metric": m.label, "direction": m.direction} for m in metrics
        }
        self.how = dict(how)
        self.verdict = verdict(self.rows, len(self.how["seeds"]))

    def __str__(self) -> str:
        return text.as_text(self.rows, self.metrics, self.verdict)

    def __repr__(self) -> str:
        names = [row.name for row in self.rows]
        return f"Comparison({names}, seeds={self.how['seeds']})"

    def _repr_html_(self) -> str:
        return html.tables(self.rows, self.metrics, self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, strings and numbers."""
        return {
            "verdict": self.verdict,
            "how": self.how,
            "metrics": self.metrics,
            "candidates": {row.name: as_dict(row) for row in self.rows},
        }

    def to_json(self, path: Any) -> None:
        """Writes `to_dict()` to a file.

        Args:
            path: The file.
        """
        content = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        Path(path).write_text(content + "\n", encoding="utf-8")

    def to_csv(self, path: Any) -> None:
        """Writes one line for each candidate and output, and one for their mean.

        Args:
            path: The file.
        """
        lines = list(text.records(self.rows, self.metrics))
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)

    def to_html(self, path: Any) -> None:
        """Writes one file with the verdict, the table, pictures and the method.

        It loads nothing from elsewhere. The pictures need matplotlib, the extra `plot`.

        Args:
            path: The file.
        """
        Path(path).write_text(html.page(self), encoding="utf-8")

    def plot(self) -> Any:
        """A matplotlib figure of the changes with their intervals, a panel a branch."""
        return pictures.plot_comparison(self)

    def plot_pareto(self) -> Any:
        """A matplotlib figure of the trade-off between the branches."""
        return pictures.plot_pareto(self)
