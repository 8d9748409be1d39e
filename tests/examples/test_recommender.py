"""The recommender: its data, what each task's network sees, and the short form."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "recommender.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_labels_follow_the_chances_and_a_like_needs_a_click(example):
    x, y, chances = example["draw_data"](20000, 3)
    assert x.shape == (20000, 16)
    clicked = y["click"] == 1
    np.testing.assert_array_equal(y["like"] == -1, ~clicked)
    for task, rows in (("click", slice(None)), ("like", clicked)):
        for low in np.arange(0, 1, 0.25):
            p = chances[task][rows]
            some = (low <= p) & (p < low + 0.25)
            spread = np.sqrt((p * (1 - p))[some].mean() / some.sum())
            apart = y[task][rows][some].mean() - p[some].mean()
            assert abs(apart) < 4 * spread


def test_the_excess_is_zero_for_the_truth_and_a_divergence_otherwise(example):
    true = np.array([0.2, 0.5, 0.9])
    assert abs(example["excess"](true, true[:, None])) < 1e-9
    half = true * np.log(true / 0.5) + (1 - true) * np.log((1 - true) / 0.5)
    said = example["excess"](true, np.full((3, 1), 0.5))
    np.testing.assert_allclose(said, 1000 * half.mean())


def changed_by(model, layer):
    """The tasks whose answers change with a layer's weights."""
    x = np.random.default_rng(0).normal(size=(20, 16)).astype("float32")
    before = model.predict(x, verbose=0)
    layer.set_weights([value + 0.5 for value in layer.get_weights()])
    after = model.predict(x, verbose=0)
    return {task for task in before if not np.allclose(before[task], after[task])}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("shared bottom", [{"click", "like"}]),
        ("MMoE", 4 * [{"click", "like"}]),
        ("PLE", [{"click", "like"}, {"click", "like"}, {"click"}, {"like"}]),
    ],
)
def test_which_experts_a_task_sees(example, network, expected):
    model = example["build"](network)
    experts = [each for each in model.layers if hasattr(each, "layers")]
    assert [changed_by(model, expert) for expert in experts] == expected


def test_the_networks_are_about_as_large(example):
    sizes = [
        example["build"](network).count_params() for network in example["NETWORKS"]
    ]
    assert max(sizes) < 1.1 * min(sizes)


def test_the_short_form(example, tmp_path, capsys):
    table = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for network, results in table.items():
        assert network in printed
        assert results.shape == (3, 1, 2)  # weightings, seeds, tasks
        assert (results > 0).all()
        for click, like in results[:, 0]:
            assert f"{click:5.1f} ±  0.0   {like:5.1f} ±  0.0" in printed
    assert example["in_words"](table) in printed
    assert (tmp_path / "recommender.png").stat().st_size > 10_000
