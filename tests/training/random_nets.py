"""A training model whose files have much to hold, and its data."""

import keras
import numpy as np
from keras import layers

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = {"zeta": X[:, :3] + 1, "alpha": RNG.integers(0, 4, 12)}
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}


def training_model(units=6):
    """With a random layer, moving statistics and moments."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(units, activation="tanh")(x)
    hidden = layers.BatchNormalization()(layers.Dropout(0.3, seed=5)(hidden))
    zeta = layers.Dense(3, name="zeta")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    training = lw.build_training_model(
        keras.Model(x, {"zeta": zeta, "alpha": alpha}),
        {"zeta": "mse", "alpha": "sparse_categorical_crossentropy"},
        lw.DWA(),
    )
    training.compile(keras.optimizers.Adam(0.05))
    return training
