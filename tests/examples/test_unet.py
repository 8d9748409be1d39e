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


def test_the_pixels_of_a_digit_have_its_class(example):
    picture = np.zeros((1, 8, 8))
    picture[0, 2:5, 3] = 16.0
    images, classes = example["draw_images"](5, (picture, np.array([3])), 0)
    assert images.shape == (5, 32, 32, 1)
    assert set(np.unique(classes)) == {3, example["NONE"]}
    # Each image has four squares that don't overlap, and all that is dark is in them.
    assert ((classes == 3).sum(axis=(1, 2)) == 4 * 8 * 8).all()
    dark = images[..., 0] == 1.0
    assert (dark.sum(axis=(1, 2)) == 4 * 3).all()
    assert (classes[dark] == 3).all()
    assert (images[..., 0][~dark] <= 0.3).all()


def test_the_smaller_targets_are_every_second_and_fourth_pixel(example):
    classes = np.arange(32 * 32).reshape(1, 32, 32)
    smaller = example["targets"](classes)
    np.testing.assert_array_equal(smaller["full"], classes)
    np.testing.assert_array_equal(smaller["half"][0, 3], classes[0, 6, ::2])
    np.testing.assert_array_equal(smaller["quarter"][0, 3], classes[0, 12, ::4])


def test_the_share_of_the_union(example):
    classes = np.full((1, 4, 4), example["NONE"])
    predicted = classes.copy()
    classes[0, 0], predicted[0, 0, 1:] = 3, 3
    assert example["iou"](classes, predicted) == pytest.approx(0.75 / 5)


def test_the_short_form(example, tmp_path, capsys):
    table = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert list(table) == list(example["METHODS"])
    for name, scores in table.items():
        assert f"{name:<14}{np.mean(scores):>7.3f}" in printed
        assert 0 <= scores[0] <= 1
    assert example["in_words"](table) in printed
    assert (tmp_path / "unet.png").stat().st_size > 10_000
