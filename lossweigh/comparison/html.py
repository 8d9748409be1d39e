"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossweigh.comparison import pictures, text
from lossweigh.comparison.rows import Row

if TYPE_CHECKING:
    from lossweigh.comparison.comparison import Comparison

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem 1.25rem 3rem;
       font: 1rem/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; }
h1 { font-size: 1.5rem; } p { overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2rem; overflow-wrap: anywhere; }
.verdict { padding: .75rem 1rem; background: #f6f8fa; border-left: 4px solid #57606a;
           overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #d8dee4;
         vertical-align: top; overflow-wrap: anywhere; }
th { border-bottom-width: 2px; white-space: nowrap; }
td:first-child { min-width: 9rem; } td.short { white-space: nowrap; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #57606a; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 45rem) {
  body { padding: .5rem .75rem 2rem; }
  table, tbody, tr, td { display: block; }
  thead { display: none; }
  tr { padding: .5rem 0; border-bottom: 1px solid #d8dee4; }
  td { display: flex; gap: .75rem; border: 0; padding: .1rem 0; }
  td:empty { display: none; }
  td::before { content: attr(data-title); flex: 0 0 8rem; color: #57606a; }
  td:first-child { font-weight: 600; } td:first-child::before { content: none; }
  dl { display: block; } dd { margin: 0 0 .5rem; } dt { color: #57606a; }
}
"""
METHOD = """
<p>Each candidate was trained from the same initial weights, on batches in the same
order, for the same number of epochs; the model of the last epoch was measured. Its
learning rate, and the weights of a search over fixed weights, were chosen by the mean
over the branches of the change of the validation metric, on the mean over the seeds.
The test data were used once, for the chosen setting.</p>
<p>A change is how much better than equal weights a candidate is on test data, as a part
of equal weights' mean. Its interval is a paired t interval over the seeds. Intervals
and p-values are corrected for the number of candidates after Holm: an interval leaves
out 0 if and only if p is below 0.05. They tell of the noise of initial weights and of
the order of batches. They don't tell of the noise of choosing these test samples.</p>
"""


def page(comparison: Comparison) -> str:
    """The whole file."""
    rows, metrics = comparison.rows, comparison.metrics
    parts = [
        "<h1>Comparison of loss weightings</h1>",
        tables(rows, metrics, comparison.verdict),
    ]
    if any(row.change is not None for row in rows):
        parts += [
            "<h2>Changes</h2>",
            _picture(
                pictures.plot_comparison(comparison, columns=1),
                "Change against equal weights, with its interval. Green is better by "
                "more than the noise of the seeds, red is worse.",
            ),
            "<h2>Trade-off</h2>",
            _picture(
                pictures.plot_pareto(comparison),
                "A filled circle is a candidate that no other beats in every branch.",
            ),
        ]
    parts += ["<h2>How it was measured</h2>", METHOD, _settings(comparison.how)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>Comparison of loss weightings</title>\n<style>{STYLE}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def tables(
    rows: Sequence[Row], metrics: Mapping[str, Mapping[str, str]], verdict: str
) -> str:
    """The verdict, a table over all branches and one for each branch."""
    parts = [f'<p class="verdict">{html.escape(verdict)}</p>']
    parts.append(_table(text.summary(rows)))
    parts += [f"<p>{html.escape(line)}</p>" for line in text.warnings(rows)]
    for output, about in metrics.items():
        words = f"{about['metric']}, {text.WORDS[about['direction']]}"
        parts.append(f"<h2>{html.escape(output)} ({html.escape(words)})</h2>")
        parts.append(_table(text.of_branch(rows, output)))
    return "\n".join(parts)


def _table(lines: Sequence[Sequence[str]]) -> str:
    titles = lines[0]
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "\n".join(_line(line, titles) for line in lines[1:])
    return (
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )


def _line(line: Sequence[str], titles: Sequence[str]) -> str:
    if len(line) < len(titles):  # a candidate that didn't finish, and why
        name, reason = line
        span = f'colspan="{len(titles) - 1}" data-title="result"'
        cells = f"<td>{html.escape(name)}</td><td {span}>{html.escape(reason)}</td>"
    else:
        cells = "".join(
            f'<td data-title="{html.escape(title)}"{_short(cell)}>'
            f"{html.escape(cell)}</td>"
            for title, cell in zip(titles, line, strict=True)
        )
    return f"<tr>{cells}</tr>"


def _short(cell: str) -> str:
    """Keeps a cell that is short on one line."""
    return ' class="short"' if len(cell) <= 20 else ""


def _picture(figure: Any, caption: str) -> str:
    """A figure as SVG in the page itself."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    words = html.escape(caption)
    return f"<figure>{drawing}<figcaption>{words}</figcaption></figure>"


def _settings(how: Mapping[str, Any]) -> str:
    items = "\n".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt>"
        f"<dd>{html.escape(_shown(value))}</dd>"
        for name, value in how.items()
    )
    return f"<dl>\n{items}\n</dl>"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_shown(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(part) for part in value)
    return str(value)
