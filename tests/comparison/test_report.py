"""What a comparison prints, writes and draws: no run is needed for it."""

import csv
import html.parser
import json

import pytest

from lossweigh.comparison import Comparison, plot_comparison, plot_pareto
from lossweigh.comparison.metrics import Metric
from lossweigh.comparison.rows import Chosen, Trial, rows_of
from lossweigh.comparison.runs import Setting

pytestmark = pytest.mark.once
HOW = {"seeds": [0, 1, 2], "epochs": 5, "samples": {"train": 9}}


def one(values, seconds=0.01, weights=None):
    """A candidate with these test metrics, one dict a seed."""
    validation = dict.fromkeys(values[0], 0.5)
    trials = (Trial(Setting(0.01, weights), validation),)
    return Chosen(trials, index=0, tests=tuple(values), step_seconds=seconds)


def made(outputs=("box", "label"), gains=None, seeds=3):
    """A comparison whose candidates are better by known parts: 0.2 is 20%."""
    noise = [0.0, 0.01, -0.01][:seeds]
    metrics = [Metric(name, "accuracy", "max") for name in outputs]
    equal = [dict.fromkeys(outputs, 0.5 + n) for n in noise]
    if gains is None:
        gains = {"<fixed> & co": 0.2, "worse": -0.1, "same": 0.0}
    chosen = {"equal": one(equal)}
    for name, gain in gains.items():
        by_output = [gain] * len(outputs) if isinstance(gain, float) else gain
        values = [
            {
                output: 0.5 * (1 + part) + n + (-1) ** index * 0.002
                for output, part in zip(outputs, by_output, strict=True)
            }
            for index, n in enumerate(noise)
        ]
        chosen[name] = one(values, seconds=0.02, weights={"box": 1.5, "label": 0.5})
    chosen["broken"] = Chosen((), "failed", "ValueError: <no>")
    how = {**HOW, "seeds": HOW["seeds"][:seeds]}
    return Comparison(rows_of(chosen, metrics), metrics, how)


def test_the_verdict_names_winners_losers_and_failures():
    verdict = made().verdict
    assert verdict.startswith("`<fixed> & co` (+2")
    assert "beats equal weights; its worst branch" in verdict
    assert "Worse than equal weights by more than the noise: `worse`." in verdict
    assert verdict.endswith("`broken` failed: ValueError: <no>.")


def test_a_winner_that_pays_with_a_branch():
    verdict = made(gains={"mixed": [0.5, -0.1]}).verdict
    assert "beats equal weights on average, but its worst branch, `label`" in verdict
    assert "-9." in verdict or "-10." in verdict


def test_a_tiny_change_is_none_however_sure_it_is():
    """All seeds differ by the same 0.05%."""
    metrics = [Metric("box", "accuracy", "max")]
    chosen = {
        "equal": one([{"box": 0.5}] * 3),
        "x": one([{"box": 0.50025}] * 3),
    }
    comparison = Comparison(rows_of(chosen, metrics), metrics, HOW)
    assert comparison.rows[1].change.is_real
    assert comparison.verdict.startswith("Nothing beats equal weights")


def errors(equal, other, direction="min"):
    metrics = [Metric("box", "mae", direction), Metric("label", "mae", direction)]
    chosen = {
        name: one([{"box": box, "label": 1.0 + 0.01 * box} for box in values])
        for name, values in (("equal", equal), ("x", other))
    }
    how = {"seeds": list(range(len(equal)))}
    return Comparison(rows_of(chosen, metrics), metrics, how)


@pytest.mark.parametrize(
    ("equal", "other"),
    [([1e-9, 2e-9], [0.1, 0.5]), ([0.0, 0.0], [0.2, 0.1]), ([-0.1, 0.2], [0.1, 0.3])],
)
def test_a_part_of_next_to_nothing_means_nothing(equal, other):
    verdict = errors(equal, other, "max").verdict
    assert verdict.startswith("Nothing can be said of the mean change: the metric of ")
    assert "`box` is close to 0 for equal weights" in verdict
    assert "Take another metric" in verdict
    assert "%" not in verdict


def test_an_error_of_which_both_are_0_is_one_that_does_not_change():
    comparison = errors([0.0, 0.0], [0.0, 0.0])
    assert comparison.verdict.startswith("Nothing beats equal weights")


def test_an_error_loses_no_more_than_all_of_it():
    (_, row) = errors([1.0, 1.0], [0.9, 0.3]).rows
    assert row.branches["box"].change.high == 1.0
    assert row.change.high == 1.0
    assert row.branches["box"].change.low < -1.0
    (_, row) = errors([1.0, 1.0], [1.1, 1.7], "max").rows
    assert row.branches["box"].change.high > 1.0


def test_all_are_worse():
    verdict = made(gains={"x": -0.2, "y": -0.1}).verdict
    assert verdict.startswith("Nothing beats equal weights by more than the noise of 3")
    assert "The least bad candidate is `y`" in verdict
    assert "Worse than equal weights by more than the noise: `x`, `y`." in verdict


def test_a_noisy_comparison_asks_for_more_seeds():
    """The candidate is better in two seeds and worse in one."""
    metrics = [Metric("box", "accuracy", "max")]
    noisy = one([{"box": value} for value in (0.7, 0.6, 0.4)])
    chosen = {"equal": one([{"box": 0.5}] * 3), "noisy": noisy}
    verdict = Comparison(rows_of(chosen, metrics), metrics, HOW).verdict
    assert verdict.startswith("Nothing beats equal weights by more than the noise of 3")
    assert "Keep equal weights, or take more seeds: a change up to +" in verdict
    assert verdict.endswith("isn't ruled out.")


def test_the_printed_table():
    comparison = made()
    lines = str(comparison).splitlines()
    (row,) = [line for line in lines if "x 2.00" in line and "<fixed>" in line]
    assert "rate 0.01, box 1.5, label 0.5" in row
    assert "label: accuracy (more is better)" in lines
    assert any(line.split() == ["equal", "0.5", "0.01"] for line in lines)
    assert any("failed: ValueError: <no>" in line for line in lines)
    assert repr(comparison).startswith("Comparison(['equal', '<fixed> & co'")


def test_csv_and_json(tmp_path):
    comparison = made()
    comparison.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 3 + 1  # three lines each, and one for what failed
    by_key = {(line["candidate"], line["branch"]): line for line in lines}
    branch = comparison.rows[1].branches["label"]
    line = by_key["<fixed> & co", "label"]
    assert float(line["mean"]) == branch.mean
    assert float(line["change_low"]) == branch.change.low
    assert line["metric"] == "accuracy"
    assert line["direction"] == "max"
    assert float(by_key["worse", "(mean)"]["change"]) == pytest.approx(-0.1, abs=0.01)
    assert by_key["broken", "(mean)"]["reason"] == "ValueError: <no>"
    comparison.to_json(tmp_path / "table.json")
    loaded = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert loaded == json.loads(json.dumps(comparison.to_dict()))
    candidate = loaded["candidates"]["<fixed> & co"]
    assert candidate["branches"]["label"]["change"]["mean"] == branch.change.mean
    assert candidate["trials"][0]["setting"]["learning_rate"] == 0.01
    assert loaded["verdict"] == comparison.verdict
    assert loaded["how"]["epochs"] == 5


class Page(html.parser.HTMLParser):
    """Tags that are open, those that were seen, links, and text."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "link"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html(tmp_path):
    comparison = made()
    comparison.to_html(tmp_path / "report.html")
    page = Page()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.seen.count("svg") == 2
    assert page.seen.count("table") == 3
    assert all(link.startswith(("#", "data:")) for link in page.links)
    for words in (comparison.verdict, "<fixed> & co", "ValueError: <no>", "Holm"):
        assert words in page.text
    assert "train: 9" in page.text


def test_html_where_there_is_nothing_to_draw(tmp_path):
    made(gains={}).to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no other candidate ended" in text
    assert "<svg" not in text


@pytest.mark.parametrize(("number", "panels"), [(1, 1), (2, 3), (3, 4), (15, 13)])
def test_pictures_of_few_and_many_branches(number, panels):
    comparison = made(outputs=[f"branch {i}" for i in range(number)])
    figure = plot_comparison(comparison)
    seen = [axis for axis in figure.axes if axis.get_visible()]
    assert len(seen) == panels
    names = [label.get_text().replace("\n", " ") for label in seen[0].get_yticklabels()]
    assert names == ["<fixed> & co", "worse", "same"]
    figure.canvas.draw()
    (axis,) = plot_pareto(comparison).axes
    texts = {text.get_text().replace("\n", " ") for text in axis.texts}
    assert texts == {"equal", "<fixed> & co", "worse", "same"}


def test_the_pareto_picture_fills_what_no_other_beats():
    gains = {"left": [0.2, -0.1], "right": [-0.1, 0.2], "worse": [-0.2, -0.2]}
    (axis,) = made(gains=gains).plot_pareto().axes
    points = [line for line in axis.lines if line.get_marker() == "o"]
    filled = [line.get_markerfacecolor() != "white" for line in points]
    assert filled == [True, True, True, False]  # equal, left, right, worse
    left = points[1].get_xydata()[0]
    assert left == pytest.approx([20, -10], abs=1)


def test_a_single_seed_has_no_interval():
    comparison = made(seeds=1)
    assert comparison.verdict.startswith("One seed tells nothing about noise.")
    assert comparison.rows[1].branches["box"].spread is None
    assert "nan" not in str(comparison)
    comparison.plot().canvas.draw()
