"""Fine-tuning: what is frozen stays, the rates are two, bad folders are refused."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops, utils

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "finegrained_finetune.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture
def images(example, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    example["make_images"](folder, rows=2)
    return folder


def test_each_image_has_the_two_labels_of_its_folder(example, images):
    train, held_out, names = example["load_images"](images, size=8, seed=0)
    assert names["fine"] == sorted(example["PICTURES"])
    assert names["coarse"] == ["photo", "sky", "surface", "text", "tissue"]
    batches = [labels for part in (train, held_out) for _, labels in part]
    coarse, fine = (
        np.concatenate([labels[head] for labels in batches])
        for head in ("coarse", "fine")
    )
    assert len(fine) == len(list(images.glob("*/*.png")))
    for kind, breed in zip(coarse, fine, strict=True):
        assert names["fine"][breed].startswith(names["coarse"][kind] + "-")


@pytest.mark.parametrize(("high", "low"), [(0.01, 0.0), (0.0, 0.01)])
def test_heads_and_backbone_have_a_rate_each_and_normalization_is_frozen(
    example, images, high, low
):
    utils.set_random_seed(0)
    train, held_out, names = example["load_images"](images, size=16, seed=0)
    backbone, predictor = example["build_models"]("small", None, 16, names)
    before = [ops.convert_to_numpy(variable) for variable in predictor.variables]
    options = SimpleNamespace(weights="given", epochs=[1, 1], rates=[high, low])
    example["fine_tune"](backbone, predictor, train.take(2), held_out, options)
    convolution, normalization, *_ = backbone.layers
    assert len(normalization.variables) == 4
    moving = {id(variable) for variable in convolution.variables} if low else set()
    if high:
        heads = [predictor.get_layer(head) for head in ("coarse", "fine")]
        moving |= {id(variable) for head in heads for variable in head.variables}
    assert len(moving) == (4 if high else 2)
    for variable, value in zip(predictor.variables, before, strict=True):
        moved = (ops.convert_to_numpy(variable) != value).any()
        assert moved == (id(variable) in moving), variable.path


def test_an_image_that_cannot_be_read_is_named_before_training(
    example, images, tmp_path
):
    broken = images / "text-page" / "0-0.png"
    broken.write_bytes(broken.read_bytes()[:100])
    output = tmp_path / "output"
    options = ["--short", "--images", str(images), "--out", str(output)]
    with pytest.raises(ValueError, match=r"text-page.0-0\.png can't be read: "):
        example["main"](options)
    assert not output.exists()


def test_a_folder_without_both_names_is_refused(example, images):
    (images / "sky-moon").rename(images / "moon")
    message = "A class must be named coarse-fine. Received: 'moon'."
    with pytest.raises(ValueError, match=message):
        example["load_images"](images, size=8, seed=0)


def test_the_short_form(example, tmp_path, capsys):
    logs = example["main"](["--short", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    for head, classes in (("coarse", "5"), ("fine", "12")):
        accuracies = logs[f"val_{head}_accuracy"]
        assert len(accuracies) == 3
        assert len(logs[f"{head}_weight"]) == 3
        (row,) = (line.split() for line in lines if line.startswith(head))
        assert row[1:3] == ["of", classes]
        expected = [accuracies[0], accuracies[-1]]
        np.testing.assert_allclose(np.float64(row[3:]), expected, atol=0.0006)
    assert (tmp_path / "predictor.keras").exists()
    assert (tmp_path / "finegrained_finetune.png").stat().st_size > 10_000
