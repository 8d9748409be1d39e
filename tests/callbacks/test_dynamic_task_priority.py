"""The weights of dynamic task prioritisation, by the reference and by a loop."""

import math

import keras
import numpy as np
import pytest
from keras import layers
from two_branches import Record, weights_of

import lossweigh as lw
from lossweigh.callbacks import DynamicTaskPriority

once = pytest.mark.once


def written_out(metrics, discount, focus):
    """The weights after each validation, number by number."""
    averages, results = list(metrics[0]), []
    for row in metrics:
        averages = [
            discount * new + (1 - discount) * old
            for new, old in zip(row, averages, strict=True)
        ]
        results.append([-((1 - m) ** focus) * math.log(m) for m in averages])
    return np.array(results)


def weights_after_each(priority, metrics):
    memory = {}
    return np.array([priority.weigh(np.array(row), memory) for row in metrics])


@once
def test_the_reference():
    metrics = [(0.5, 0.9), (0.6, 0.92), (0.65, 0.93)]
    weights = weights_after_each(DynamicTaskPriority("val_{branch}_auc"), metrics)
    expected = [(0.3466, 0.0105), (0.2690, 0.0085), (0.2043, 0.0067)]
    np.testing.assert_allclose(weights, expected, atol=6e-5)


@once
@pytest.mark.parametrize(
    ("discount", "focus"), [(0.5, 1.0), (1.0, 2.0), (0.1, 0.0), (0.0, 0.5)]
)
def test_a_loop_that_is_written_out(discount, focus):
    metrics = np.random.default_rng(0).uniform(0.01, 0.99, (7, 4))
    priority = DynamicTaskPriority("val_{branch}_auc", discount=discount, focus=focus)
    weights = weights_after_each(priority, metrics)
    np.testing.assert_allclose(weights, written_out(metrics, discount, focus))


@once
@pytest.mark.parametrize("focus", [0.0, 1.0, 3.0])
def test_metrics_of_0_and_1_give_finite_weights_above_0(focus):
    priority = DynamicTaskPriority("val_{branch}_auc", focus=focus)
    weights = weights_after_each(priority, [[0.0, 1.0]])
    assert np.all(np.isfinite(weights))
    assert np.all(weights > 0)


def test_fit_takes_the_validations_metrics():
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    targets = {
        "left": (x[:, 0] > 0.0).astype("int32"),
        "right": (x[:, 1] > 0.5).astype("int32"),
    }
    inputs = keras.Input((3,), name="x")
    shared = layers.Dense(4, activation="tanh")(inputs)
    heads = {
        name: layers.Dense(2, activation="softmax", name=name)(shared)
        for name in targets
    }
    losses = dict.fromkeys(heads, "sparse_categorical_crossentropy")
    model = keras.Model(inputs, heads)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    metrics = {"left": ["accuracy"], "right": ["accuracy"]}
    training.compile(keras.optimizers.Adam(0.03), metrics=metrics)
    record = Record(weights_of)
    history = training.fit(
        x,
        targets,
        validation_split=0.5,
        epochs=4,
        verbose=0,
        callbacks=[DynamicTaskPriority("val_{branch}_accuracy"), record],
    ).history
    seen = np.transpose([history[f"val_{name}_accuracy"] for name in heads])
    assert np.ptp(seen) > 0
    seen = np.clip(seen, 1e-7, 1 - 1e-7)
    np.testing.assert_allclose(record.seen, written_out(seen, 0.5, 1.0), rtol=1e-4)


@once
def test_bad_arguments():
    with pytest.raises(ValueError, match="`discount` must be between 0 and 1"):
        DynamicTaskPriority("val_{branch}_auc", discount=1.5)
    with pytest.raises(ValueError, match="`focus` must be at least 0"):
        DynamicTaskPriority("val_{branch}_auc", focus=-1)
