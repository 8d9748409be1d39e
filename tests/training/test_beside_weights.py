"""A training model's files hold what Keras leaves out: seeds and first losses."""

import h5py
import keras
import numpy as np
from keras import ops
from random_nets import FIT, X, Y, training_model


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
