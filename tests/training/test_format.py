"""A saved training model says its format; another one is refused in words."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest
from nets import LOSSES, arrays, two_heads

import lossweigh as lw

X, Y = arrays()


def rewritten(path, change):
    """Changes the training model's config in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    model = json.loads(entries["config.json"])
    change(model["config"])
    entries["config.json"] = json.dumps(model).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def of_a_later_version(config):
    config["lossweigh_format"], config["lossweigh_version"] = 7, "3.1.0"


def of_no_version(config):
    del config["lossweigh_format"], config["lossweigh_version"]


def of_a_word(config):
    config["lossweigh_format"] = "new"


THIS = rf"lossweigh {re.escape(lw.__version__)}"
CURE = r"build the training model anew and give `load_weights` this file"
REFUSED = {
    "later": (
        of_a_later_version,
        rf"of format 7, written by lossweigh 3\.1\.0\. {THIS} reads the format 1\. "
        rf"Install the version that wrote it, or {CURE}",
    ),
    "none": (
        of_no_version,
        r"without a format, written by no released version of lossweigh\. "
        rf"{THIS} reads the format 1\. To go on, {CURE}",
    ),
    "word": (of_a_word, rf"of format 'new', written by {THIS}\."),
}


def test_the_config_says_format_and_version():
    config = lw.build_training_model(two_heads(), LOSSES).get_config()
    assert config["lossweigh_format"] == 1
    assert config["lossweigh_version"] == lw.__version__
    assert "lossweigh_format" not in two_heads().get_config()


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_format_is_refused(name, tmp_path):
    change, message = REFUSED[name]
    training = lw.build_training_model(two_heads(), LOSSES)
    training.compile("sgd")
    training.fit(X, Y, verbose=0)
    path = tmp_path / "training.keras"
    training.save(path)
    rewritten(path, lambda config: None)
    keras.models.load_model(path)  # rewritten, and the same
    rewritten(path, change)
    with pytest.raises(ValueError, match=message):
        keras.models.load_model(path)
    # The cure:
    again = lw.build_training_model(two_heads(), LOSSES)
    again.load_weights(path)
    for one, other in zip(again.get_weights(), training.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", REFUSED)
def test_json_of_another_format_is_refused(name):
    change, message = REFUSED[name]
    training = lw.build_training_model(two_heads(), LOSSES, lw.FixedWeights())
    text = training.to_json()
    again = keras.models.model_from_json(text)
    assert again.branches == training.branches
    assert json.loads(again.to_json()) == json.loads(text)
    model = json.loads(text)
    change(model["config"])
    with pytest.raises(ValueError, match=message):
        keras.models.model_from_json(json.dumps(model))
    with pytest.raises(ValueError, match=message):
        lw.TrainingModel.from_config(model["config"])


def test_what_is_no_config_is_refused():
    with pytest.raises(ValueError, match=r"without a format"):
        lw.TrainingModel.from_config(two_heads().get_config())
