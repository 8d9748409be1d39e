"""Small problems whose right answer is known, for the tests of this folder."""

import keras
import numpy as np
from keras import layers

LOSSES = {"a": "mse", "b": "mse"}
METRIC = {"a": "mae", "b": "mae"}
QUICK = {"metric": METRIC, "progress": False, "learning_rates": [0.01], "seeds": 2}


def rows(seed, number=48):
    """Inputs (number, 4) and the targets a and b (number, 1)."""
    x = np.random.default_rng(seed).normal(size=(number, 4)).astype("float32")
    a, b = np.tanh(x[:, :1] - x[:, 1:2]), np.tanh(x[:, 2:3] + x[:, 3:])
    return x, {"a": a, "b": b}


def data(**given):
    parts = ("train", "validation", "test")
    return {name: rows(seed, **given) for seed, name in enumerate(parts)}


def shared(width=8):
    """One layer that both branches read. Before training all predictions are 0."""
    x = keras.Input((4,))
    hidden = layers.Dense(width, activation="tanh")(x)
    heads = {
        name: layers.Dense(1, kernel_initializer="zeros", name=name)(hidden)
        for name in ("a", "b")
    }
    return keras.Model(x, heads), dict(LOSSES)


def apart():
    """Two branches that share nothing."""
    x = keras.Input((4,))
    heads = {
        name: layers.Dense(1, name=name)(layers.Dense(4, activation="tanh")(x))
        for name in ("a", "b")
    }
    return keras.Model(x, heads), dict(LOSSES)


def thousandth(y_true, y_pred):
    """A loss on a scale of its own."""
    return 0.001 * keras.losses.mean_squared_error(y_true, y_pred)


def unequal():
    """Loss a is a thousandth of loss b: under SGD it is hardly trained."""
    return shared(width=32)[0], {"a": thousandth, "b": "mse"}
