"""Multiplying one loss by 1000 doesn't change what is learned, where promised."""

import keras
import numpy as np
import pytest

import lossweigh as lw

pytestmark = pytest.mark.compiled  # hundreds of steps

# name: how to make one, and how many steps it takes until nothing moves
METHODS = {
    "Uncertainty": (lambda: lw.Uncertainty(learning_rate=0.1), 400),
    "IMTLL": (lambda: lw.IMTLL(learning_rate=0.1), 400),
    "GeometricMean": (lw.GeometricMean, 100),
    "LogSum": (lw.LogSum, 100),
}


@keras.saving.register_keras_serializable(package="tests")
def thousand_squared_errors(y_true, y_pred):
    return 1000.0 * keras.ops.mean(keras.ops.square(y_pred - y_true), axis=-1)


def predictions(weighter, loss, steps):
    """Of one linear unit that both branches want for themselves, once trained."""
    keras.utils.set_random_seed(1)
    x = keras.Input((2,), name="x")
    shared = keras.layers.Dense(1, use_bias=False)(x)
    heads = {name: keras.layers.Identity(name=name)(shared) for name in ("odd", "even")}
    prediction = keras.Model(x, heads)
    model = lw.build_training_model(prediction, {"odd": "mse", "even": loss}, weighter)
    rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
    # A short memory of squared gradients: until a learned weight has come down,
    # they are a million times too large, and Adam's default forgets in thousands
    # of steps.
    model.compile(keras.optimizers.Adam(rate, beta_2=0.9))
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, 2)).astype("float32")
    # Enough noise that the total has one minimum, between the two.
    targets = dict(
        zip(heads, np.split(data + 2 * rng.normal(size=(32, 2)), 2, 1), strict=True)
    )
    model.fit(
        np.tile(data, (steps, 1)),
        {name: np.tile(target, (steps, 1)) for name, target in targets.items()},
        batch_size=32,
        shuffle=False,
        verbose=0,
    )
    return prediction.predict(data, verbose=0)["odd"]


def change(make, steps):
    plain = predictions(make(), "mse", steps)
    scaled = predictions(make(), thousand_squared_errors, steps)
    return np.sqrt(np.mean((plain - scaled) ** 2) / np.mean(plain**2))


@pytest.mark.parametrize("name", METHODS)
def test_scale_does_not_matter(name):
    assert change(*METHODS[name]) < 1e-3


def test_scale_does_matter_for_fixed_weights():
    assert change(lw.FixedWeights, 100) > 0.2
