"""A training model's files hold what Keras leaves out: seeds and first losses."""

import h5py
import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = {"zeta": X[:, :3] + 1, "alpha": RNG.integers(0, 4, 12)}
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}


def training_model(units=6):
    """With a random layer, moving statistics and moments."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(units, activation="tanh")(x)
    hidden = layers.BatchNormalization()(layers.Dropout(0.3, seed=5)(hidden))
    zeta = layers.Dense(3, name="zeta")(hidden)
    alpha = layers.Dense(4, activation="softmax", name="alpha")(hidden)
    training = lw.build_training_model(
        keras.Model(x, {"zeta": zeta, "alpha": alpha}),
        {"zeta": "mse", "alpha": "sparse_categorical_crossentropy"},
        lw.DWA(),
    )
    training.compile(keras.optimizers.Adam(0.05))
    return training


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
