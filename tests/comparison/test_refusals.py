"""Arguments that can't be used are refused in words, before anything is run."""

import importlib

import keras
import numpy as np
import pytest
from problems import QUICK, data, shared

import lossweigh as lw

pytestmark = pytest.mark.once
FIXED = {"fixed": [{"a": 1.0, "b": 3.0}]}


def compared(build=shared, parts=data, candidates=FIXED, **given):
    return lw.compare(build, parts, candidates, **{**QUICK, "budget": 1, **given})


class Broken(keras.optimizers.SGD):
    def apply_gradients(self, *args, **kwargs):
        raise ValueError("It is broken.")

    apply = apply_gradients


def shape_of_both(y_true, y_pred):
    return np.zeros(2)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"metric": "mae"}, TypeError, r"must be a dict .* outputs are \['a', 'b'\]"),
        ({"metric": {}}, ValueError, "a metric for at least one output"),
        ({"metric": {"c": "mae"}}, ValueError, r"unknown: \['c'\]"),
        ({"metric": {"a": "mean_mistake"}}, ValueError, "Received: 'mean_mistake'"),
        ({"metric": {"a": 3}}, TypeError, "the name of a Keras metric"),
        ({"metric": {"a": np.sum}}, ValueError, r"\(sum, 'max'\) or \(sum, 'min'\)"),
        (
            {"metric": {"a": ("mae", "up")}},
            ValueError,
            r"`metric` of 'a' must be .* 'max' or 'min'.* Received: \('mae', 'up'\)",
        ),
        (
            {"metric": {"a": keras.metrics.MeanAbsoluteError}},
            TypeError,
            r"Write `MeanAbsoluteError\(\)`",
        ),
        ({"optimizer": "adamm"}, ValueError, "`optimizer` must be .*'adamm'"),
        ({"n_jobs": "a"}, TypeError, "`n_jobs` must be"),
        ({"n_jobs": 0}, ValueError, "`n_jobs` must be"),
        ({"n_jobs": 1.5}, ValueError, "`n_jobs` must be"),
        ({"seeds": "5"}, TypeError, "`seeds` must be"),
        ({"budget": "5"}, TypeError, "`budget` must be"),
        ({"learning_rates": [0.01, 0.01]}, ValueError, "`learning_rates` must .* diff"),
        ({"metric": {"a": keras.metrics.Sum()}}, ValueError, "whether more is better"),
        ({"metric": {"a": (shape_of_both, "max")}}, ValueError, "return one number"),
        ({"seeds": 0}, ValueError, "`seeds` must be a whole number of at least 1"),
        ({"seeds": []}, ValueError, "`seeds` must be a number of seeds"),
        ({"seeds": [1, 1]}, ValueError, "a list of different ones"),
        ({"budget": 0}, ValueError, "`budget` must be a whole number of at least 1"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a whole number"),
        ({"learning_rates": []}, ValueError, "`learning_rates` must hold at least"),
        ({"learning_rates": [0.0]}, ValueError, "`learning_rates` must be greater"),
        (
            {"learning_rates": 0.1},
            TypeError,
            "`learning_rates` must be a list of numbers",
        ),
        ({"optimizer": 3}, TypeError, "`optimizer` must be a name, a Keras optimizer"),
        (
            {
                "optimizer": keras.optimizers.Adam(
                    keras.optimizers.schedules.CosineDecay(0.1, 3)
                )
            },
            ValueError,
            "must be a function from a learning rate",
        ),
        ({"candidates": {}}, ValueError, "`candidates` must have at least one"),
        ({"parts": {}}, ValueError, "`data` must have the parts"),
        ({"build": shared()}, TypeError, "`build` must be a function"),
        ({"build": lambda: 3}, TypeError, "must return a pair"),
        ({"build": lambda: (3, "mse")}, TypeError, "It returned a int first"),
    ],
)
def test_an_argument_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        compared(**given)


def test_a_model_that_is_not_built_anew():
    model, losses = shared()
    with pytest.raises(ValueError, match="It returned the same model when it was"):
        compared(build=lambda: (model, losses))


def test_a_layer_that_is_not_built_anew():
    hidden = keras.layers.Dense(8, name="hidden")

    def build():
        x = keras.Input((4,))
        heads = {n: keras.layers.Dense(1, name=n)(hidden(x)) for n in ("a", "b")}
        return keras.Model(x, heads), {"a": "mse", "b": "mse"}

    with pytest.raises(ValueError, match="It returned 'kernel' again when it was"):
        compared(build=build)


def test_a_loss_layer_that_is_not_built_anew():
    loss = lw.BranchLoss("mse")

    def build():
        return shared()[0], {"a": loss, "b": "mse"}

    with pytest.raises(ValueError, match="new loss layers in each call"):
        compared(build=build)


def test_if_all_runs_fail_the_first_says_why():
    def optimizer(rate):
        return Broken(rate)

    with pytest.raises(ValueError, match=r"Each of the 4 runs failed.*It is broken"):
        compared(optimizer=optimizer)


@pytest.mark.parametrize("missing", ["joblib", "scipy"])
def test_a_missing_package_is_named_with_its_cure(monkeypatch, missing):
    real = importlib.import_module

    def without(name, package=None):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ValueError, match=rf"needs {missing}.*`pip install {missing}`"):
        compared()
