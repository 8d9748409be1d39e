"""Small models and data that the tests of this folder share.

The outputs are named so that their alphabetical order isn't the model's, and
differ in shape and loss, so that a swap can't go unnoticed.
"""

import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

ROWS, BATCH = 10, 4  # the last batch of an epoch is a partial one
LOSSES = {"zeta": "mse", "alpha": "sparse_categorical_crossentropy"}
FIXED = {"zeta": 0.7, "alpha": 0.2}


def two_heads(structure=dict, regularised=False):
    """A prediction model with the outputs zeta (3,) and alpha (4 classes)."""
    l2 = keras.regularizers.L2(0.1) if regularised else None
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(
        6, activation="tanh", kernel_regularizer=l2, activity_regularizer=l2
    )(x)
    zeta = layers.Dense(3, name="zeta")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    if structure is dict:
        return keras.Model(x, {"zeta": zeta, "alpha": alpha})
    return keras.Model(x, structure([zeta, alpha]))


def sequences():
    """As `two_heads`, at each time step, with padded steps masked."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    hidden = layers.Embedding(7, 4, mask_zero=True)(tokens)
    hidden = layers.SimpleRNN(4, return_sequences=True)(hidden)
    zeta = layers.Dense(3, name="zeta")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    return keras.Model(tokens, {"zeta": zeta, "alpha": alpha})


def two_inputs():
    """Names whose alphabetical order isn't the model's."""
    right, left = keras.Input((4,), name="right"), keras.Input((4,), name="left")
    hidden = layers.Dense(6, activation="tanh")(right)
    hidden = layers.Concatenate()([layers.BatchNormalization()(hidden), left])
    zeta = layers.Dense(3, name="zeta", kernel_regularizer="l2")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    return keras.Model([right, left], {"zeta": zeta, "alpha": alpha})


def arrays(rows=ROWS, steps=(), seed=1):
    """x and y for `two_heads`; with `steps=(5,)`, for `sequences`."""
    rng = np.random.default_rng(seed)
    if steps:
        x = rng.integers(1, 7, (rows, *steps))
        x[np.arange(steps[0]) >= rng.integers(2, 6, (rows, 1))] = 0
    else:
        x = rng.normal(size=(rows, 4)).astype("float32")
    y = {
        "zeta": rng.normal(size=(rows, *steps, 3)).astype("float32"),
        "alpha": rng.integers(0, 4, (rows, *steps)),
    }
    return x, y


def sample_weights(rows=ROWS, seed=2):
    """Weights of each branch's samples, some of them 0."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 4, rows).astype("float32") / 2 for name in LOSSES}


def copy_of(model):
    """The same model with the same numbers in other variables."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def fixed(model, **compile_arguments):
    """The model's training model with fixed weights, compiled with SGD."""
    training = lw.build_training_model(model, LOSSES, lw.FixedWeights(FIXED))
    training.compile(keras.optimizers.SGD(0.1), **compile_arguments)
    return training


def numbers(logs):
    """Logs as floats."""
    return {key: float(value) for key, value in logs.items()}


def evaluate(training, x=None, y=None, sample_weight=None):
    """The logs of one batch: of `arrays()` where no data is given."""
    default_x, default_y = arrays()
    x = default_x if x is None else x
    y = default_y if y is None else y
    arguments = {"batch_size": ROWS, "verbose": 0, "return_dict": True}
    return numbers(training.evaluate(x, y, sample_weight=sample_weight, **arguments))


def state(training):
    """The numbers of the model and of its optimizer."""
    variables = [*training.variables, *training.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]
