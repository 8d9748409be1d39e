"""What a step computes no more often than Keras does."""

import keras
import numpy as np
from keras import layers

import lossweigh as lw


class Counted(keras.regularizers.Regularizer):
    """A penalty that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return 0.1 * keras.ops.sum(x * x)


def test_a_regulariser_is_called_once_a_step():
    penalty = Counted()
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, kernel_regularizer=penalty)(inputs)
    outputs = {name: layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    x = np.ones((8, 3), "float32")
    y = {name: np.ones((8, 1), "float32") for name in outputs}
    losses = dict.fromkeys(outputs, "mse")
    calls = {}
    for name, each in (
        ("Keras", model),
        ("lossweigh", lw.build_training_model(model, losses, lw.FixedWeights())),
    ):
        loss = losses if each is model else None
        each.compile("sgd", **({"loss": loss} if loss else {}), run_eagerly=True)
        each.train_on_batch(x, y)
        penalty.calls = 0
        each.train_on_batch(x, y)
        calls[name] = penalty.calls
    assert calls == {"Keras": 1, "lossweigh": 1}
