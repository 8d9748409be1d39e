"""Loaded and cloned models take data as the first did, whatever their structure."""

import keras
import numpy as np
import pytest
from keras import layers
from nets import LOSSES, arrays, numbers, state, two_heads, two_inputs

import lossweigh as lw

pytestmark = pytest.mark.compiled

X, Y = arrays()


@keras.saving.register_keras_serializable("test_loading")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(3)
        self.second = layers.Dense(4, activation="softmax")

    def call(self, x):
        return [self.first(x), self.second(x)]


def subclassed():
    model = Subclassed()
    model(X)
    return model


def unnamed_inputs():
    first, second = keras.Input((4,)), keras.Input((4,))
    hidden = layers.Concatenate()([first, layers.Dense(2)(second)])
    zeta = layers.Dense(3)(hidden)
    return keras.Model([first, second], [zeta, layers.Dense(4, "softmax")(zeta)])


# name: what makes the model, x
KINDS = {
    "dict": (two_heads, X),
    "list": (lambda: two_heads(list), X),
    "list of inputs": (two_inputs, [X, X[::-1]]),
    "inputs without names": (unnamed_inputs, [X, X[::-1]]),
    "subclassed": (subclassed, X),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_takes_data_in_the_same_order(kind, tmp_path):
    make, x = KINDS[kind]
    model = make()
    losses, weights = list(LOSSES.values()), [2, 3]
    if kind in ("dict", "list of inputs"):
        losses = dict(reversed(LOSSES.items()))
        weights = {"zeta": 2, "alpha": 3}
    training = lw.build_training_model(model, losses, lw.FixedWeights(weights))
    training.compile("sgd")
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    y = [Y["zeta"], Y["alpha"]]
    expected = numbers(training.evaluate(x, y, verbose=0, return_dict=True))
    assert numbers(loaded.evaluate(x, y, verbose=0, return_dict=True)) == expected
    assert loaded.branches == training.branches
    assert type(loaded.prediction_model) is type(model)


@pytest.mark.smoke
def test_checkpoints(tmp_path):
    training = lw.build_training_model(two_heads(), LOSSES, lw.Uncertainty())
    training.compile("adam")
    whole = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_relative_loss", save_best_only=True
    )
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "last.weights.h5", save_weights_only=True
    )
    training.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[whole, weights])
    loaded = keras.models.load_model(tmp_path / "best.keras")
    for one, other in zip(state(loaded), state(training), strict=True):
        np.testing.assert_array_equal(one, other)
    other = lw.build_training_model(two_heads(), LOSSES, lw.Uncertainty())
    other.load_weights(tmp_path / "last.weights.h5")
    for one, same in zip(other.get_weights(), training.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_clone_is_a_training_model():
    training = lw.build_training_model(two_heads(), LOSSES)
    clone = keras.models.clone_model(training)
    assert type(clone) is lw.TrainingModel
    assert clone.branches == training.branches
    assert clone.prediction_model is not training.prediction_model
    clone.set_weights(training.get_weights())
    before = training.prediction_model.get_weights()
    logs = []
    for model in (clone, training):
        model.compile("sgd")
        logs.append(numbers(model.train_on_batch(X, Y, return_dict=True)))
    assert logs[0] == pytest.approx(logs[1])
    for one, other in zip(training.get_weights(), clone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, old in zip(clone.prediction_model.get_weights(), before, strict=True):
        assert (one != old).any()
