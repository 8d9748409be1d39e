"""A file of Keras doesn't hold the seeds of random layers.

In Keras 3.15 the state of a `Dropout`'s `SeedGenerator` is among
`model.variables`, but in no `.keras` or `.weights.h5` file. So a training
that goes on from a file, or by `BackupAndRestore`, draws other numbers than
one that wasn't interrupted. The files of a training model hold the seeds.

    python docs/upstream/seeds_not_saved.py
"""

import pathlib
import tempfile

import keras
import numpy as np


def build():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("sgd", "mse")
    return model


def train(model, begin, end):
    x, y = np.ones((4, 8)), np.ones((4, 1))
    fit = {"initial_epoch": begin, "epochs": end, "verbose": 0}
    return model.fit(x, y, **fit).history["loss"]


with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "model.keras")
    print("in one go:     ", train(build(), 0, 4))
    model = build()
    first = train(model, 0, 2)
    model.save(path)
    print(
        "by way of disk:",
        first + train(keras.models.load_model(path), 2, 4),
    )
