"""Prediction models of every structure that `build_training_model` takes."""

import keras
from keras import layers


class Subclassed(keras.Model):
    def __init__(self, structure, **kwargs):
        super().__init__(**kwargs)
        self.structure = structure
        self.hidden = layers.Dense(5, activation="relu")
        self.first = layers.Dense(3)
        self.second = layers.Dense(4, activation="softmax")

    def call(self, x):
        if isinstance(x, dict):
            x = x["left"] + x["right"]
        hidden = self.hidden(x)
        both = {"zeta": self.first(hidden), "alpha": self.second(hidden)}
        return both if self.structure is dict else self.structure(both.values())


def heads(hidden):
    zeta = layers.Dense(3, name="zeta")(hidden)
    return [zeta, layers.Dense(4, activation="softmax", name="alpha")(hidden)]


def functional(structure, *between):
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5, activation="relu")(x)
    for layer in between:
        hidden = layer(hidden)
    both = heads(hidden)
    if structure is dict:
        return keras.Model(x, {"zeta": both[0], "alpha": both[1]})
    return keras.Model(x, structure(both))


def sequential():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(5), layers.Dense(3, name="zeta")]
    )


def one_output():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(3, name="zeta")(x))


def two_inputs(structure):
    right, left = keras.Input((4,), name="right"), keras.Input((4,), name="left")
    inputs = {"right": right, "left": left} if structure is dict else [right, left]
    return keras.Model(inputs, heads(layers.Concatenate()([right, left])))


def one_layer_twice():
    x = keras.Input((4,), name="x")
    shared = layers.Dense(3, name="shared")
    hidden = layers.Dense(4, activation="relu")(x)
    return keras.Model(x, [shared(x), shared(hidden)])


def frozen():
    model = functional(list)
    model.layers[1].trainable = False
    return model


def built(model, x):
    model(x)
    return model


def backbone():
    image = keras.Input((32, 32, 3), name="image")
    # One without batch normalization: what a deep one computes of ten rows, untrained,
    # differs by a tenth in its third step where sums are in another order.
    whole = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    pooled = layers.GlobalAveragePooling2D()(whole.get_layer("block2_pool").output)
    trunk = keras.Model(whole.input, pooled)  # two of five blocks: JAX took 37 s
    return keras.Model(image, heads(trunk(image)))
