"""A training model's files hold what Keras leaves out: seeds and first losses."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops
from random_nets import FIT, X, Y, training_model

import lossweigh as lw


def built_model():
    """Its optimizer's variables can be loaded."""
    training = training_model()
    training.optimizer.build(training.trainable_variables)
    return training


def state(training):
    variables = [*training.variables, *training.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values == other[name], name


def test_seeds_and_first_losses_are_in_every_file(tmp_path):
    """What Keras leaves out of a file: of random layers, and of `relative_loss`."""
    training = training_model()
    training.fit(X, Y, epochs=2, **FIT)
    training.save_weights(tmp_path / "some.weights.h5")
    training.save_weights(tmp_path / "many.weights.json", max_shard_size=1)
    training.save(tmp_path / "some.keras")
    expected = training.fit(X, Y, initial_epoch=2, epochs=3, **FIT).history
    assert expected["relative_loss"] != [1.0]
    by_weights, by_shards = built_model(), built_model()
    by_weights.load_weights(tmp_path / "some.weights.h5")
    by_shards.load_weights(tmp_path / "many.weights.json")
    whole = keras.models.load_model(tmp_path / "some.keras")
    if keras.backend.backend() != "jax":
        whole.run_eagerly = True
    for resumed in (by_weights, by_shards, whole):
        same(resumed.fit(X, Y, initial_epoch=2, epochs=3, **FIT).history, expected)


def test_seeds_of_other_random_layers_are_left_alone(tmp_path):
    training = training_model()
    training.save_weights(tmp_path / "some.weights.h5")
    with h5py.File(tmp_path / "some.weights.h5", "r+") as file:
        file["vars/seed_1"] = file["vars/seed_0"][()] + 1
    before = state(training)
    training.load_weights(tmp_path / "some.weights.h5")
    for one, other in zip(state(training), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rate", [0.3, None])
def test_a_balancer_that_draws_goes_on(rate, tmp_path):
    """Its generator's state is in every file once, with random layers and without."""

    def balanced_model():
        zeta, alpha = (keras.layers.Dense(3, name=name) for name in ("zeta", "alpha"))
        x = keras.Input((4,), name="x")
        hidden = keras.layers.Dense(5)(x)
        if rate is not None:
            hidden = keras.layers.Dropout(rate, seed=5)(hidden)
        training = lw.build_training_model(
            keras.Model(x, {"zeta": zeta(hidden), "alpha": alpha(hidden)}),
            {"zeta": "mse", "alpha": "mse"},
            balancer=lw.PCGrad(seed=1),
        )
        training.compile("sgd")
        training.optimizer.build(training.trainable_variables)
        return training

    def seeds(training):
        weights = [id(variable) for variable in training.weights]
        others = [v for v in training.variables if id(v) not in weights]
        return [ops.convert_to_numpy(variable).tolist() for variable in others]

    training = balanced_model()
    targets = {"zeta": X[:, :3], "alpha": X[:, 1:]}
    training.fit(X, targets, batch_size=4, verbose=0)
    assert len(seeds(training)) == (1 if rate is None else 2)
    training.save_weights(tmp_path / "some.weights.h5")
    training.save(tmp_path / "some.keras")
    loaded = balanced_model()
    assert seeds(loaded) != seeds(training)
    loaded.load_weights(tmp_path / "some.weights.h5")
    assert seeds(loaded) == seeds(training)
    assert seeds(keras.models.load_model(tmp_path / "some.keras")) == seeds(training)
    held = []
    with h5py.File(tmp_path / "some.weights.h5") as file:
        file.visit(lambda name: held.append(name) if "seed" in name else None)
    assert len(held) == len(seeds(training)), held
