"""`GradientReport` logs what `inspect` sees, and nothing in between."""

import csv

import keras
import numpy as np
import pytest
from keras import layers

import lossweigh as lw

ROWS = 8


def training_of(names):
    x = keras.Input((3,))
    hidden = layers.Dense(4, activation="tanh")(x)
    model = keras.Model(x, {n: layers.Dense(1, name=n)(hidden) for n in names})
    training = lw.build_training_model(model, dict.fromkeys(names, "mse"))
    training.compile("sgd")
    rng = np.random.default_rng(0)
    y = {name: rng.normal(size=(ROWS, 1)).astype("float32") for name in names}
    return training, rng.normal(size=(ROWS, 3)).astype("float32"), y


def test_logs_are_those_of_inspect(tmp_path):
    training, x, y = training_of("ab")
    log = tmp_path / "log.csv"
    history = training.fit(
        x,
        y,
        epochs=2,
        verbose=0,
        callbacks=[keras.callbacks.CSVLogger(log), lw.callbacks.GradientReport(x, y)],
    ).history
    last = training.inspect(x, y)
    assert history["a_gradient_norm"][-1] == last.gradient_norm["a"]
    assert history["a_b_cosine"][-1] == last.cosine["a"]["b"]
    assert history["b_gradient_norm"][0] != history["b_gradient_norm"][1]
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["a_b_cosine"]) == last.cosine["a"]["b"]


@pytest.mark.parametrize(
    "names", ["abcdef", ["a_b", "c", "a", "b_c"]], ids=["many", "pairs of one name"]
)
def test_branches_have_one_cosine_each(names):
    training, x, y = training_of(names)
    report = lw.callbacks.GradientReport(x, y)
    history = training.fit(x, y, verbose=0, callbacks=[report]).history
    cosine = training.inspect(x, y).cosine
    assert history["c_lowest_cosine"] == [min(cosine["c"].values())]
    assert not any(key.endswith("_b_cosine") for key in history)


def test_nothing_is_measured_between_reports(monkeypatch):
    training, x, y = training_of("ab")
    inspect, epochs = training.inspect, []
    monkeypatch.setattr(
        type(training),
        "inspect",
        lambda self, *a, **k: epochs.append(1) or inspect(**k),
    )
    report = lw.callbacks.GradientReport(x, y, every=3)
    history = training.fit(x, y, epochs=5, verbose=0, callbacks=[report]).history
    # Once to see that it works, after the first epoch, and after the fourth.
    assert len(epochs) == 3
    norms = history["a_gradient_norm"]
    assert norms[0] == norms[1] == norms[2] != norms[3] == norms[4]


def test_bad_input():
    training, x, y = training_of("ab")
    with pytest.raises(ValueError, match="`every` must be a whole number"):
        lw.callbacks.GradientReport(x, y, every=0)
    with pytest.raises(TypeError, match="is used up by then"):
        lw.callbacks.GradientReport(pair for pair in [(x, y)])
    before = training.get_weights()
    report = lw.callbacks.GradientReport(x, {"a": y["a"]})
    with pytest.raises(ValueError, match="`y` must have"):
        training.fit(x, y, verbose=0, callbacks=[report])
    for one, other in zip(before, training.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model = training.prediction_model
    model.compile("sgd", loss="mse")
    report = lw.callbacks.GradientReport(x, y)
    with pytest.raises(ValueError, match="`build_training_model` made"):
        model.fit(x, y, verbose=0, callbacks=[report])
