"""What a balancer keeps from step to step."""

import keras
import numpy as np
import pytest
from balanced_nets import Alone, Uneven, data, plain, state_of, train, weights_of
from keras import layers, ops

import lossweigh as lw


@keras.saving.register_keras_serializable(package="tests")
class Probe(layers.Layer):
    """Adds zeros, one for each element of a batch, whose gradient is its output's."""

    def build(self, shape):
        self.added = self.add_weight(shape=(8, shape[-1]), initializer="zeros")

    def call(self, inputs):
        return inputs + self.added

    def compute_output_shape(self, shape):
        return shape


def probed():
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(8, activation="tanh")(x)
    hidden = Probe()(layers.Dense(8, activation="tanh")(hidden))
    return keras.Model(x, {name: layers.Dense(2, name=name)(hidden) for name in "zba"})


def uneven(gramian):
    return np.arange(1.0, len(gramian) + 1) / np.sqrt(np.diag(gramian))


def test_exact_weights_are_kept_in_between():
    """Found anew in every third step, from the gradients of that step."""
    model = probed()
    x, y = data(model)
    alone = Alone(model, x, y)
    balancer = Uneven(level=lw.Parameters(update_every=3))
    training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.1))
    refreshed = []
    for index in range(8):
        exact, _ = alone.gradients()
        if index % 3 == 0:
            refreshed.append(uneven(exact @ exact.T))
        weights, before = refreshed[-1], model.get_weights()
        training.train_on_batch(x, y)
        np.testing.assert_allclose(weights_of(training), weights, rtol=1e-4)
        moved, _ = alone.lost_since(before)
        np.testing.assert_allclose(moved, 0.1 * weights @ exact, rtol=1e-4, atol=2e-6)
    assert np.abs(refreshed[0] / refreshed[1] - 1).max() > 0.02
    assert np.abs(refreshed[1] / refreshed[2] - 1).max() > 0.02


def test_calibrated_weights():
    """From the representation's Gramian with the ratios of the last exact step."""
    model = probed()
    x, y = data(model)
    alone = Alone(model, x, y)
    balancer = lw.UPGrad(level=lw.Calibrated(update_every=3))
    training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.1))
    differences = []
    for index in range(8):
        exact, _ = alone.gradients()
        near = exact[:, -64:]  # the probe's
        if index % 3 == 0:
            ratios = np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
            gramian = exact @ exact.T
        else:
            gramian = near @ near.T * np.outer(ratios, ratios)
        training.train_on_batch(x, y)
        found = weights_of(training)
        expected = balancer.solve(ops.convert_to_tensor(gramian, "float32"))
        expected = ops.convert_to_numpy(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        kept = state_of(training)
        np.testing.assert_allclose(kept["ratios"], ratios, rtol=1e-4)
        assert kept["age"] == (index + 1) % 3
        exactly = ops.convert_to_tensor(exact @ exact.T, "float32")
        exactly = ops.convert_to_numpy(balancer.solve(exactly))
        differences.append(np.abs(found - exactly).max())
    assert max(differences) > 1e-3  # or the ratios weren't needed


ACCUMULATED = {
    "GradNorm": {},
    "GradVac": {"level": "representation", "seed": 1},
    "PCGrad": {"seed": 1},
    "IMTLG": {"level": lw.Parameters(update_every=3)},
    "UPGrad": {"level": lw.Calibrated(update_every=3)},
}


@pytest.mark.parametrize(
    ("name", "scaled"),
    [*((name, False) for name in ACCUMULATED), ("GradNorm", True), ("UPGrad", True)],
)
def test_accumulated_gradients(name, scaled):
    """Every batch moves weights and state, as without: not their largest values."""
    model = plain()
    x, y = data(model, rows=24)
    found = []
    for steps in (None, 4):
        optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=steps)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        balancer = getattr(lw, name)(**ACCUMULATED[name])
        training = train(model, y, balancer, optimizer=optimizer)
        training.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
        if name in ("GradNorm", "UPGrad"):
            training.compile(optimizer)  # again: nothing is done twice
        part = {branch: values[:12] for branch, values in y.items()}
        training.fit(x[:12], part, batch_size=4, shuffle=False, verbose=0)
        found.append([weights_of(training), *state_of(training).values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    if name == "GradNorm":
        assert found[1][0].sum() == pytest.approx(3.0, rel=1e-5)
