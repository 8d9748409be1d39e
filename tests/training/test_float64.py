"""Models in float64 train as those in float32 do, whatever combines their branches."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers

import lossweigh as lw

# JAX has no float64 unless it is told so, and says it at each one.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = {"box": RNG.normal(size=(16, 1)), "kind": RNG.integers(0, 3, 16)}
LOSSES = {"box": "mse", "kind": "sparse_categorical_crossentropy"}


@contextlib.contextmanager
def precision(way):
    """float64 by the layers' dtype, or by the global policy and `floatx`."""
    if way == "global":
        keras.config.set_dtype_policy("float64")
        keras.config.set_floatx("float64")
    try:
        yield "float64" if way == "dtype" else None
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def two_heads(dtype):
    x = keras.Input((4,), name="x", dtype=dtype)
    hidden = layers.Dense(5, activation="tanh", dtype=dtype)(x)
    box = layers.Dense(1, name="box", dtype=dtype)(hidden)
    kind = layers.Dense(3, activation="softmax", name="kind", dtype=dtype)(hidden)
    return keras.Model(x, {"box": box, "kind": kind})


def trained(way, weights, **methods):
    """The logs and the weights after two epochs of two steps."""
    with precision(way) as dtype:
        model = two_heads(dtype)
        model.set_weights(weights)
        methods = {name: make() for name, make in methods.items()}
        training = lw.build_training_model(model, LOSSES, **methods)
        training.compile(keras.optimizers.SGD(0.1))
        fit = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
        history = training.fit(X, Y, **fit).history
    return {**history, **dict(enumerate(model.get_weights()))}


METHODS = {
    **{
        f"{name}, {level}": {
            "balancer": lambda n=name, v=level: getattr(lw, n)(level=v)
        }
        for name in ("UPGrad", "GradNorm", "IMTLG")
        for level in ("representation", "calibrated", "parameters")
    },
    **{
        name: {"weighter": getattr(lw, name)}
        for name in lw.weighting.__all__
        if name not in ("Weighter", "RandomWeights")
    },
    "RandomWeights": {"weighter": lambda: lw.RandomWeights(seed=0)},
    "GradDrop": {"balancer": lambda: lw.GradDrop(seed=0)},
    "both": {"balancer": lw.MGDA, "weighter": lw.Uncertainty},
}


@pytest.mark.parametrize("methods", METHODS.values(), ids=list(METHODS))
def test_float64_trains_as_float32(methods):
    weights = two_heads("float32").get_weights()
    expected = trained("float32", weights, **methods)
    for way in ("dtype", "global"):
        found = trained(way, weights, **methods)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(
                found[key], values, atol=1e-4, err_msg=f"{way}: {key}"
            )
