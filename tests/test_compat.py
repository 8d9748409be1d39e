"""Each private name of Keras that is used does what it is used for."""

import keras
import numpy as np
import pytest
from keras import ops

import lossweigh as lw
from lossweigh import _compat


def variables():
    layer = keras.layers.Layer()
    return [
        layer.add_weight(name=name, shape=(), initializer="ones")
        for name in ("kernel", "theirs", "ours")
    ]


@pytest.mark.parametrize("scaled", [False, True])
def test_exclusion_from_weight_decay_adds_to_the_users(scaled):
    kernel, theirs, ours = variables()
    optimizer = keras.optimizers.SGD(0.1, weight_decay=1.0)
    optimizer.exclude_from_weight_decay(var_list=[theirs])
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    _compat.exclude_from_weight_decay(outer, [ours])
    optimizer.apply([ops.zeros(())] * 3, [kernel, theirs, ours])
    values = [float(ops.convert_to_numpy(v.value)) for v in (kernel, theirs, ours)]
    np.testing.assert_allclose(values, [0.9, 1.0, 1.0], rtol=1e-6)


def test_exclusion_after_the_optimizer_is_built_and_used():
    kernel, theirs, ours = variables()
    optimizer = keras.optimizers.SGD(0.1, weight_decay=1.0)
    optimizer.apply([ops.zeros(())] * 3, [kernel, theirs, ours])
    _compat.exclude_from_weight_decay(optimizer, [ours])
    before = float(ops.convert_to_numpy(ours.value))
    optimizer.apply([ops.zeros(())] * 3, [kernel, theirs, ours])
    assert float(ops.convert_to_numpy(ours.value)) == before
    assert float(ops.convert_to_numpy(kernel.value)) < before


def test_an_optimizer_leaves_variables_out():
    """With momentum and weight decay, and until it is told otherwise."""
    kernel, theirs, ours = variables()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1.0)

    def moved():
        before = [float(ops.convert_to_numpy(v.value)) for v in (kernel, theirs, ours)]
        optimizer.apply([ops.ones(())] * 3, [kernel, theirs, ours])
        after = [float(ops.convert_to_numpy(v.value)) for v in (kernel, theirs, ours)]
        return [one != other for one, other in zip(before, after, strict=True)]

    assert moved() == [True, True, True]
    _compat.leave_out(optimizer, [ours])
    assert moved() == [True, True, False]
    _compat.leave_out(optimizer, [ours, theirs])
    assert moved() == [True, False, False]
    _compat.leave_out(optimizer, [])
    assert moved() == [True, True, True]


def test_layers_compute_as_frozen_ones_and_keep_their_variables():
    layer = keras.layers.BatchNormalization()
    x = np.random.default_rng(0).normal(2.0, 3.0, (8, 2)).astype("float32")
    layer.build(x.shape)
    trained = len(layer.trainable_variables)
    with _compat.as_frozen([layer]):
        y = ops.convert_to_numpy(layer(x, training=True))
        assert all(v.trainable for v in (layer.gamma, layer.beta))
    np.testing.assert_allclose(y, x / np.sqrt(1 + layer.epsilon), rtol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.moving_mean), [0, 0])
    assert len(layer.trainable_variables) == trained
    assert not np.allclose(ops.convert_to_numpy(layer(x, training=True)), y)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.Huber(delta=0.3),
        keras.losses.CosineSimilarity(axis=1),
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        keras.losses.MeanSquaredError(),
    ],
)
def test_a_loss_reloads_with_all_its_arguments(loss):
    rng = np.random.default_rng(0)
    y, p = rng.random((2, 4, 3)).astype("float32")
    again = keras.saving.deserialize_keras_object(_compat.serialize_loss(loss))
    assert type(again) is type(loss)
    assert float(again(y, p)) == float(loss(y, p))


@keras.saving.register_keras_serializable(package="lossweigh_tests")
def pinball(y_true, y_pred):
    return ops.maximum(y_true - y_pred, 0.1 * (y_pred - y_true))


def test_a_function_is_serialized_by_its_name():
    serialized = _compat.serialize_loss(pinball)
    assert keras.saving.deserialize_keras_object(serialized) is pinball


def test_losses_that_were_taken_are_forgotten():
    """Another layer's loss at the same address is that layer's alone."""
    x = keras.Input((3,))
    inner = keras.layers.ActivityRegularization(l2=1.0)
    model = keras.Model(x, keras.layers.Activation("relu")(inner(x)))
    outer = keras.layers.Layer()
    both = keras.Sequential([model, outer])
    with _compat.Assignments([]) as scope:
        model.call(ops.ones((2, 3)))
        losses = scope.take_losses(model)
    assert [float(loss) for loss in losses] == [3.0]  # a sample's
    with keras.StatelessScope(collect_losses=True):
        outer.add_loss(losses[0])
        assert [float(loss) for loss in both.losses] == [3.0]
    assert not model.losses


def test_assignments_are_known():
    """Also of a variable that isn't any layer's."""
    mine, other, kernel = (keras.Variable(0.0) for _ in range(3))
    with _compat.Assignments([(kernel, 2.0)]) as scope:
        mine.assign(kernel + 1.0)
        mine.assign_add(1.0)
        assert ops.convert_to_numpy(other + kernel) == 2.0
    assert list(scope.assigned.values()) == [mine]
    assert ops.convert_to_numpy(scope.get_current_value(mine)) == 4.0
    assert float(ops.convert_to_numpy(mine)) == 0.0


def test_a_loss_of_ones_own_leaves_no_call_behind():
    """Or a layer that isn't told whether it trains would ask that one, for good."""
    x = np.ones((6, 4), "float32")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="y")(inputs))

    def squared(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_pred - y_true), axis=-1)

    training = lw.build_training_model(model, squared)
    training.compile("sgd")
    training.fit(x, np.ones((6, 1)), verbose=0)
    dropout = keras.layers.Dropout(0.5)
    assert (keras.ops.convert_to_numpy(dropout(x, training=True)) == 0).any()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(dropout(x)), x)


def test_fit_begins_at_the_epoch_that_a_callback_says():
    begin = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: _compat.begin_at_epoch(model, 2)
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    fit = {"x": np.ones((2, 1)), "y": np.ones((2, 1)), "epochs": 3, "verbose": 0}
    assert model.fit(**fit, callbacks=[begin]).epoch == [2]
    assert model.fit(**fit).epoch == [2]  # Keras doesn't forget it
    _compat.begin_at_epoch(model, None)
    assert model.fit(**fit).epoch == [0, 1, 2]
