"""A picture of a training shows the numbers of the logs, each branch as one line."""

import itertools
import re
import sys

import keras
import numpy as np
import pytest
from lines import drawn, legend_of, lines_of, looks
from matplotlib.colors import to_hex

import lossweigh as lw

pytestmark = pytest.mark.once

EPOCHS = 6
# One begins with another, and ends with what could be a quantity or a partner.
NAMES = ["a", "a_b", "b", "box_loss", "weight"]
LOSSES = {"loss": [2.0, 1.0], "box_loss": [0.4, 0.1], "label_loss": [2.3, 1.9]}


def drawn_logs(branches, validated=False):
    """Random numbers under all keys that a training may log, and their panels."""
    random = np.random.default_rng(0)
    panels, logs = {}, {}

    def add(title, label, key, has_validation=False):
        for prefix, style in (("", "-"), ("val_", "--"))[: 1 + has_validation]:
            logs[prefix + key] = random.uniform(0.5, 1.5, EPOCHS).tolist()
            if style == "-" and " and " in label:
                style = "--"
            points = np.arange(1, EPOCHS + 1), logs[prefix + key]
            panels.setdefault(title, {})[label, style] = np.array(points)

    for total in ("loss", "unweighted_loss", "relative_loss", "learning_rate"):
        logs[total] = random.uniform(0.5, 1.5, EPOCHS).tolist()
    for branch in branches:
        add("loss", branch, f"{branch}_loss", validated)
    for quantity in ("weight", "balance", "gradient_norm"):
        for branch in branches:
            add(quantity.replace("_", " "), branch, f"{branch}_{quantity}")
    if len(branches) <= 5:
        title = "cosine of two branches' gradients"
        for pair in itertools.combinations(branches, 2):
            add(title, " and ".join(pair), "_".join([*pair, "cosine"]))
    else:
        for branch in branches:
            add("lowest cosine", branch, f"{branch}_lowest_cosine")
    for branch in branches:
        key = f"{branch}_gradient_norm_at_parameters"
        add("gradient norm at parameters", branch, key)
    if len(branches) > 1:
        key = "_".join([*branches[:2], "cosine_at_parameters"])
        add("cosine at parameters", " and ".join(branches[:2]), key)
    for branch in branches[:2]:
        add("accuracy", branch, f"{branch}_accuracy", validated)
    return logs, panels


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("branches", [["box", "label"], NAMES, list("abcdefgh")])
def test_each_number_is_in_the_panel_and_line_of_its_branch(branches, validated):
    logs, panels = drawn_logs(branches, validated)
    shown = lines_of(lw.plot_training(logs))
    assert list(shown) == list(panels)
    for title, lines in panels.items():
        assert shown[title].keys() == lines.keys()
        for key, points in lines.items():
            np.testing.assert_array_equal(shown[title][key], points)


@pytest.mark.parametrize("number", [1, 2, 7, 8, 20, 40])
def test_a_branch_looks_the_same_in_all_panels_and_like_no_other(number):
    branches = [f"branch_{index}" for index in range(number)]
    figure = lw.plot_training(drawn_logs(branches, validated=True)[0])
    legend = legend_of(figure)
    assert list(legend) == [*branches, "training", "validation"]
    assert len({legend[branch] for branch in branches}) == number
    for axes in figure.axes:
        for line in drawn(axes):
            branch, *partner = line.get_label().split(" and ")
            assert looks(line) == legend[branch]
            if partner:
                color, _ = legend[partner[0]]
                assert to_hex(line.get_gapcolor()) == color


def test_names_are_shown_as_they_are():
    names = ["_x", "$a$", "training", "n" * 80, " ".join(["long"] * 40), "a\\b^{"]
    figure = lw.plot_training({f"{name}_loss": [1.0, 2.0] for name in names})
    figure.draw_without_rendering()
    for shown, name in zip(legend_of(figure), names, strict=True):
        assert shown.split() == name.split() or shown.replace("\n", "") == name
    width = figure.bbox.width
    for text in figure.legends[0].get_texts():
        assert not text.get_parse_math()
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width


def test_the_legend_leaves_the_panels_their_height():
    """Twenty long names make the figure higher, not the panels lower."""
    heights = []
    for names in (
        ["a", "b"],
        [f"a rather long name of a branch, {i}" for i in range(20)],
    ):
        figure = lw.plot_training({f"{name}_loss": [1.0, 2.0] for name in names})
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    np.testing.assert_allclose(*heights, rtol=0.1)


def test_a_branch_that_is_named_like_validation():
    logs = {"val_x_loss": [1.0], "val_val_x_loss": [2.0], "y_loss": [3.0]}
    shown = lines_of(lw.plot_training(logs))["loss"]
    assert {key: points[1].item() for key, points in shown.items()} == {
        ("val_x", "-"): 1.0,
        ("val_x", "--"): 2.0,
        ("y", "-"): 3.0,
    }


def test_a_metric_that_ends_like_a_loss_is_no_branch():
    logs = {**LOSSES, "label_own_loss": [1.0, 2.0], "box_weight": [1.0, 1.0]}
    logs["label_weight"] = [1.0, 2.0]
    figure = lw.plot_training(logs)
    assert list(legend_of(figure)) == ["box", "label"]
    assert list(lines_of(figure)["own loss"]) == [("label", "-")]


def test_without_losses_the_weights_are_shown():
    figure = lw.plot_training({"loss": [1.0], "a_weight": [0.5], "b_weight": [1.5]})
    assert list(lines_of(figure)) == ["weight"]
    assert list(legend_of(figure)) == ["a", "b"]


def test_what_is_not_finite_is_a_gap():
    logs = {"a_loss": [1.0, np.nan, np.inf, 4.0], "b_loss": [np.nan] * 4}
    logs |= {"b_weight": [1.0] * 4, "a_weight": [1.0] * 4, "a_accuracy": [np.nan] * 4}
    figure = lw.plot_training(logs)
    figure.draw_without_rendering()
    shown = lines_of(figure)
    assert list(shown) == ["loss", "weight"]
    assert list(shown["loss"]) == [("a", "-")]
    _, values = shown["loss"]["a", "-"]
    np.testing.assert_array_equal(values, [1.0, np.nan, np.nan, 4.0])
    assert list(legend_of(figure)) == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "values", "scale"),
    [
        ("a_loss", [0.01, 1.0], "log"),
        ("a_loss", [0.1, 1.0], "linear"),
        ("a_loss", [-0.01, 1.0], "linear"),
        ("a_loss", [0.0, 1.0], "linear"),
        ("a_weight", [0.01, 1.0], "log"),
        ("a_gradient_norm", [0.01, 1.0], "log"),
        ("a_accuracy", [0.01, 1.0], "linear"),
    ],
)
def test_a_scale_is_logarithmic_where_it_helps(key, values, scale):
    axes = lw.plot_training({"a_loss": [1.0, 1.0], key: values}).axes[-1]
    assert axes.get_yscale() == scale


def test_cosines_are_shown_from_minus_one_to_one():
    logs = {"a_loss": [1.0], "b_loss": [1.0], "a_b_cosine": [0.1]}
    low, high = lw.plot_training(logs).axes[1].get_ylim()
    assert low <= -1 < 1 <= high


def test_one_epoch_is_a_dot_at_epoch_1():
    figure = lw.plot_training({"a_loss": [1.0], "b_loss": [2.0]})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1], [1]]
    assert all(line.get_marker() != "None" for line in axes.lines)
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_it_is_written_and_nothing_is_left_open(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    path = tmp_path / "training.png"
    figure = lw.plot_training(LOSSES, path=path)
    pixels = keras.utils.img_to_array(keras.utils.load_img(path))
    assert pixels.shape[1] == pytest.approx(110 * figure.get_figwidth(), abs=2)
    assert pixels.std() > 5
    assert plt.get_fignums() == before


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if not installed
    message = re.escape("Install it: `pip install matplotlib`.")
    with pytest.raises(ValueError, match=message):
        lw.plot_training(LOSSES)
