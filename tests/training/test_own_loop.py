"""A training loop of the user's own: right by Keras's optimizer, refused by another."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
ROWS = 8
DATA = {
    "x": RNG.normal(size=(ROWS, 4)).astype("float32"),
    "z_target": 3 * RNG.normal(size=(ROWS, 2)).astype("float32"),
    "b_target": RNG.normal(size=(ROWS, 2)).astype("float32"),
}


def training_model(level="representation"):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5, activation="tanh")(x)
    outputs = {name: layers.Dense(2, name=name)(hidden) for name in "zb"}
    training = lw.build_training_model(
        keras.Model(x, outputs),
        {"z": "mse", "b": "mse"},
        balancer=lw.GradNorm(level=level),
    )
    training.compile(keras.optimizers.SGD(0.1))
    return training


def gradients_of(training, data):
    """The weighted loss's gradients by the trainable variables, on any backend."""
    variables = training.trainable_variables

    def loss():
        return ops.mean(training(data, training=True)["weighted_loss"])

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total = loss()
        return tape.gradient(total, [v.value for v in variables])
    if keras.backend.backend() == "torch":
        training.zero_grad()
        loss().backward()
        return [variable.value.grad for variable in variables]
    import jax

    def total(values, frozen, data):
        outputs, _ = training.stateless_call(values, frozen, data, training=True)
        return ops.mean(outputs["weighted_loss"])

    frozen = [v.value for v in training.non_trainable_variables]
    values = [variable.value for variable in variables]
    return jax.jit(jax.grad(total))(values, frozen, data)


@pytest.mark.smoke
@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_steps_by_keras_optimizer(level):
    """They are those of `train_on_batch`."""
    data = {name: ops.convert_to_tensor(value) for name, value in DATA.items()}
    ours, theirs = training_model(level), training_model(level)
    for _ in range(3):
        gradients = gradients_of(ours, data)
        if keras.backend.backend() == "torch":
            import torch

            with torch.no_grad():
                ours.optimizer.apply(gradients, ours.trainable_variables)
        else:
            ours.optimizer.apply(gradients, ours.trainable_variables)
        theirs.train_on_batch(DATA)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert set(ours.balance.values()) != {1.0}


@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_steps_by_another_optimizer(level):
    """The state would be descended on; the next forward pass says so."""
    data = {name: ops.convert_to_tensor(value) for name, value in DATA.items()}
    training = training_model(level)
    gradients = gradients_of(training, data)
    for variable, gradient in zip(training.trainable_variables, gradients, strict=True):
        value = ops.convert_to_numpy(variable.value)
        variable.assign(value - 0.1 * ops.convert_to_numpy(gradient))
    with pytest.raises(Exception, match=r"`training.optimizer.apply\(gradients, tr"):
        ops.convert_to_numpy(gradients_of(training, data)[0])
    # What doesn't train goes on.
    training.evaluate(DATA, verbose=0)


def test_a_balancer_is_not_called():
    with pytest.raises(TypeError, match=r"balancer=UPGrad\(\)\)"):
        lw.UPGrad()(DATA["x"])
