"""A small model, one of whose branches weighs its points, and a step of it by hand."""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

sys.path.insert(0, str(Path(__file__).parents[1] / "points"))
from point_loops import METHODS

ROWS = 10
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, 3)).astype("float32")
Y = {
    "u": RNG.normal(size=(ROWS, 1)).astype("float32"),
    "v": RNG.normal(size=(ROWS, 2)).astype("float32"),
}
SIZES = {"u": 1, "v": 2}


def net():
    x = keras.Input((3,), name="x")
    hidden = layers.Dense(4, activation="tanh", name="last")(x)
    outputs = {name: layers.Dense(k, name=name)(hidden) for name, k in SIZES.items()}
    return keras.Model(x, outputs)


def weighing(
    method,
    weighter=None,
    balancer=None,
    model=None,
    rate=0.1,
    of_v=None,
    optimizer=None,
    **compiling,
):
    """A training model whose branch u has the weights of `METHODS[method]`, or none.

    Args:
        method: A name, or weights of points, or `None`.
        of_v: The weights of points of the other branch.
    """
    if isinstance(method, str):
        method = METHODS[method][0](ROWS)
    points = {"u": method, "v": of_v}
    losses = {n: lw.BranchLoss("mse", point_weights=p) for n, p in points.items()}
    training = lw.build_training_model(model or net(), losses, weighter, balancer)
    optimizer = optimizer or keras.optimizers.SGD(rate)
    training.compile(optimizer, advise=False, **compiling)
    return training


def rows_of(rows, index=None):
    """x and y of some rows, with their index."""
    x = {"x": X[rows], "u_index": np.asarray(rows if index is None else index, "int32")}
    return x, {name: values[rows] for name, values in Y.items()}


def losses_of_u(training):
    """Each row's squared error of u."""
    predicted = training.predict(X, verbose=0)["u"]
    return ((predicted - Y["u"]) ** 2)[:, 0]


def state(training):
    """The numbers of the weights of points."""
    layer = training.point_weights["u"]
    return [np.array(ops.convert_to_numpy(variable)) for variable in layer.variables]


def assert_same(one, other, **tolerance):
    for mine, its in zip(one, other, strict=True):
        if tolerance:
            np.testing.assert_allclose(mine, its, **tolerance)
        else:
            np.testing.assert_array_equal(mine, its)
