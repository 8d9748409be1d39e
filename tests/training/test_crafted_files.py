"""A file that names code of its own is refused, and none of it runs."""

import json
import zipfile

import keras
import pytest
from nets import LOSSES, arrays, two_heads

import lossweigh as lw

CODE = "open({marker!r}, 'w').close()"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved training model, with one of each kind of object in its config."""
    training = lw.build_training_model(
        two_heads(),
        LOSSES,
        weighter=lw.FAMO(),
        balancer=lw.UPGrad(),
    )
    training.compile(keras.optimizers.Adam(), metrics={"zeta": ["mae"]})
    training.train_on_batch(*arrays())
    path = tmp_path_factory.mktemp("saved") / "training.keras"
    training.save(path)
    return path


def is_refused(path):
    try:
        keras.models.load_model(path)
    except Exception:  # each part of a config has an error of its own
        return True
    return False


def with_config(path, change, crafted):
    """A copy of a file, in which something of the config is changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(crafted, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return crafted


def objects(part, found=None):
    """All dicts in a config that name a class."""
    found = [] if found is None else found
    if isinstance(part, dict):
        if "class_name" in part and "config" in part:
            found.append(part)
        for value in part.values():
            objects(value, found)
    elif isinstance(part, list):
        for value in part:
            objects(value, found)
    return found


def strangers(marker):
    """Classes and functions that would run something, as a config names them."""
    code = CODE.format(marker=str(marker))
    lambda_config = {"name": "crafted", "function": {"class_name": "__lambda__"}}
    return {
        "a function of the library": {
            "module": "os",
            "class_name": "system",
            "config": {"command": f"touch {marker}"},
            "registered_name": "system",
        },
        "builtins": {
            "module": "builtins",
            "class_name": "exec",
            "config": {"source": code},
            "registered_name": "exec",
        },
        "a lambda": {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": lambda_config,
            "registered_name": None,
        },
    }


@pytest.mark.parametrize("kind", sorted(strangers("")))
def test_no_object_is_replaced_by_code(saved, tmp_path, kind):
    with zipfile.ZipFile(saved) as file:
        number = len(objects(json.loads(file.read("config.json"))))
    assert number > 10
    marker, taken = tmp_path / "marker", []
    for index in range(number):

        def change(config, index=index):
            one = objects(config)[index]
            one.update(strangers(marker)[kind])

        crafted = with_config(saved, change, tmp_path / "crafted.keras")
        if not is_refused(crafted):
            taken.append(index)
        assert not marker.exists(), index
    assert len(taken) <= 1  # the balancer's policy, which nothing reads


def test_the_saved_file_itself_loads(saved):
    assert isinstance(keras.models.load_model(saved), lw.TrainingModel)
