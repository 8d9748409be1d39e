"""A training model of two branches whose validation losses part: `a` can only worsen.

Its validation targets are the training targets with the other sign.
"""

import keras
import numpy as np
from keras import layers

import lossweigh as lw

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = {"a": X[:, :1] + 3.0, "b": X @ np.ones((3, 2), "float32")}
VALIDATION = (X[:8], {"a": -Y["a"][:8], "b": Y["b"][:8]})


def prediction_model():
    x = keras.Input((3,), name="x")
    shared = layers.Dense(4, activation="tanh", name="shared")(x)
    inner = layers.Dense(4, kernel_regularizer="l2", name="a_inner")(shared)
    inner = layers.BatchNormalization(name="a_normed")(inner)
    heads = {
        "a": layers.Dense(1, name="a")(inner),
        "b": layers.Dense(2, name="b")(shared),
    }
    return keras.Model(x, heads, name="net")


def training_model(optimizer=None, *, weighter=None, balancer=None, **compiled):
    keras.utils.set_random_seed(1)
    weighter = lw.FixedWeights(name="weighter") if weighter is None else weighter
    losses = {"a": "mse", "b": "mae"}
    training = lw.build_training_model(prediction_model(), losses, weighter, balancer)
    training.compile(optimizer or adam(), **compiled)
    return training


def adam():
    """With all that moves a variable whose gradient is 0."""
    return keras.optimizers.AdamW(0.02, weight_decay=0.1, name="adamw")


def fit(training, *callbacks, epochs=4, **arguments):
    arguments = {"validation_data": VALIDATION, "batch_size": 16, **arguments}
    return training.fit(
        X,
        Y,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    ).history


def numbers(model):
    """The values of a model's weights by path."""
    return {v.path: keras.ops.convert_to_numpy(v.value) for v in model.weights}


def weights_of(training):
    return keras.ops.convert_to_numpy(training.weighter.loss_weights)


class Record(keras.callbacks.Callback):
    """What a function of the training model gave at each epoch's end."""

    def __init__(self, look):
        super().__init__()
        self.look, self.seen = look, []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.look(self.model))
