"""The U-Net: its images and its measure, and the short form."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "unet.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_a_digit_s_pixels_have_its_class(example):
    picture = np.zeros((1, 8, 8))
    picture[0, 2:5, 3] = 16.0
    images, classes = example["draw_images"](5, (picture, np.array([7])), 0)
    assert images.shape == (5, 32, 32, 1)
    assert set(np.unique(classes)) == {7, example["NONE"]}
    digit = classes == 7
    assert (images[..., 0][digit] == 1.0).all()
    assert (images[..., 0][~digit] <= 0.5).all()
    assert (digit.sum(axis=(1, 2)) <= 9).all()  # three, which may overlap
    smaller = example["targets"](classes)
    assert {name: y.shape[1] for name, y in smaller.items()} == {
        "full": 32,
        "half": 16,
        "quarter": 8,
    }


def test_the_share_of_the_union(example):
    classes = np.full((1, 4, 4), example["NONE"])
    predicted = classes.copy()
    classes[0, 0], predicted[0, 0, 1:] = 3, 3
    assert example["iou"](classes, predicted) == pytest.approx(0.75 / 10)


def test_the_short_form(example, tmp_path, capsys):
    table = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert list(table) == list(example["METHODS"])
    for name, scores in table.items():
        assert f"{name:<14}{np.mean(scores):>7.3f}" in printed
        assert 0 <= scores[0] <= 1
    assert example["in_words"](table) in printed
    assert (tmp_path / "unet.png").stat().st_size > 10_000
