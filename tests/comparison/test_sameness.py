"""A kept comparison isn't taken for another one."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from keras import layers
from problems import QUICK, data

import lossweigh as lw
from lossweigh.comparison.sameness import described, hashed

pytestmark = pytest.mark.once
DELTA = 1.0


def huber(delta):
    return keras.losses.Huber(delta)


def squared(y_true, y_pred):
    return keras.ops.square(y_true - y_pred)


def build(activation="relu", rate=0.0, loss=None, scale=1.0):
    """Inputs (batch, 4); models differ in what the shapes don't tell."""
    x = keras.Input((4,))
    hidden = layers.Dropout(rate)(layers.Dense(4, activation=activation)(x))
    hidden = layers.Lambda(lambda values: scale * values)(hidden)
    heads = {name: layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    return keras.Model(x, heads), {"a": loss or huber(1.0), "b": "mse"}


def sgd(rate):
    return keras.optimizers.SGD(rate)


def scored(scale):
    return (lambda y_true, y_pred: scale * float(abs(y_true - y_pred).mean()), "min")


def compared(folder, built=build, **given):
    given = {**QUICK, "metric": {"a": scored(1.0)}, "optimizer": sgd, **given}
    given = {**given, "budget": 1, "seeds": 1, "folder": folder}
    candidates = {"fixed": [{"a": 1.0, "b": 3.0}]}
    return lw.compare(built, data(), candidates, **given)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sameness") / "kept"
    compared(folder)
    return folder


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"built": functools.partial(build, "tanh")}, "model"),
        ({"built": functools.partial(build, lambda x: 2 * x)}, "model"),
        ({"built": functools.partial(build, rate=0.5)}, "model"),
        ({"built": lambda: build(loss=huber(0.01))}, "model"),
        ({"built": lambda: build(loss=squared)}, "model"),
        ({"built": functools.partial(build, scale=2.0)}, "model"),
        ({"optimizer": lambda rate: keras.optimizers.Adam(rate)}, "optimizer"),
        ({"optimizer": lambda rate: keras.optimizers.SGD(5 * rate)}, "optimizer"),
        ({"metric": {"a": scored(2.0)}}, "metric"),
        (
            {"metric": {"a": (lambda y_true, y_pred: float(y_pred.max()), "min")}},
            "metric",
        ),
    ],
)
def test_another_experiment_is_refused(kept, given, words):
    with pytest.raises(ValueError, match=f"which holds one with another {words}. "):
        compared(kept, **given)


def test_another_policy_is_refused(kept):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match="another dtype, another model"):
            compared(kept)
    finally:
        keras.config.set_dtype_policy("float32")


SCRIPT = """
import test_sameness as experiment
from keras import layers
layers.Dense(1), layers.Dropout(0.1)
experiment.compared({folder!r})
"""


def test_another_process_goes_on_with_the_same(kept):
    """It numbers its layers otherwise, and hashes strings otherwise."""
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7"}
    environment["KERAS_BACKEND"] = keras.backend.backend()
    script = SCRIPT.format(folder=str(kept))
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert before == {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}


class Scaled:
    """A callable whose attributes count."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, value):
        return self.scale * value


def with_global(value):
    return DELTA * _helped(value)


def _helped(value):
    return value in {"a", "b"}


def test_functions_are_told_apart_by_what_they_compute(monkeypatch):
    assert described(Scaled(1.0)) == described(Scaled(1.0))
    assert described(Scaled(1.0)) != described(Scaled(2.0))
    one, other = (functools.partial(huber, delta) for delta in (1.0, 2.0))
    assert described(one) != described(other)
    with_one = hashed(described(with_global))
    assert hashed(described(with_global)) == with_one
    monkeypatch.setitem(with_global.__globals__, "DELTA", 2.0)
    assert hashed(described(with_global)) != with_one
    monkeypatch.setitem(with_global.__globals__, "DELTA", 1.0)
    monkeypatch.setitem(with_global.__globals__, "_helped", Scaled.__call__)
    assert hashed(described(with_global)) != with_one


def test_a_function_that_calls_itself():
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert json.dumps(described(factorial))
