"""Logs and metrics count what the loss counts, whatever the batches are."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
ROWS, TASKS = 60, 8
X = RNG.normal(size=(ROWS, 4)).astype("float32")
Y = (RNG.uniform(size=(ROWS, TASKS)) > 0.5).astype("float32")
MISSING = RNG.uniform(size=Y.shape) < 0.4
MISSING[:20] = RNG.uniform(size=(20, TASKS)) < 0.95  # the first batch has hardly any
MISSING[55:] = False
Y_MISSING = np.where(MISSING, np.nan, Y).astype("float32")


class Largest(keras.metrics.Metric):
    """The user's own: the largest error that counts."""

    def __init__(self, name="largest"):
        super().__init__(name=name)
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = ops.abs(ops.cast(y_true, "float32") - y_pred)
        if sample_weight is not None:
            for _ in range(len(error.shape) - len(sample_weight.shape)):
                sample_weight = ops.expand_dims(sample_weight, -1)
            error = error * sample_weight
        self.value.assign(ops.maximum(self.value, ops.max(error)))

    def result(self):
        return self.value + 0.0


def tasks(loss="binary_crossentropy", **kwargs):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(TASKS, activation="sigmoid", name="tasks")(x))
    branch = lw.BranchLoss(loss, missing="nan")
    training = lw.build_training_model(model, branch, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.1), **kwargs)
    return training


def evaluate(training, x=X, y=Y_MISSING, batch=10, **kwargs):
    return training.evaluate(x, y, batch, verbose=0, return_dict=True, **kwargs)


@pytest.mark.smoke
@pytest.mark.parametrize("batch", [10, 30, 60])
def test_the_loss_of_an_epoch_is_the_mean_of_its_labels(batch):
    training = tasks()
    prediction = training.predict(X, verbose=0)
    values = -np.log(np.where(Y == 1, prediction, 1 - prediction))
    logs = evaluate(training, batch=batch)
    assert logs["tasks_loss"] == pytest.approx(values[~MISSING].mean(), rel=1e-5)
    order = RNG.permutation(ROWS)
    shuffled = evaluate(training, X[order], Y_MISSING[order], batch)
    assert shuffled["tasks_loss"] == pytest.approx(logs["tasks_loss"], rel=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_loss_of_an_epoch_of_padded_steps(batch):
    tokens = np.array([[1, 2, 3, 4], [1, 0, 0, 0], [2, 3, 0, 0]])
    inputs = keras.Input((4,), dtype="int32", name="tokens")
    hidden = layers.Embedding(5, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(hidden))
    training = lw.build_training_model(model, "mse", lw.FixedWeights())
    training.compile("sgd", metrics=["mse"])
    y = RNG.normal(size=(3, 4, 2)).astype("float32")
    error = ((model.predict(tokens, verbose=0) - y) ** 2).mean(-1)
    logs = evaluate(training, tokens, y, batch)
    expected = error[tokens != 0].mean()
    assert logs["out_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["mse"] == pytest.approx(expected, rel=1e-5)


def test_ignored_classes_count_nowhere():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(3, activation="softmax", name="kind")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile("sgd", metrics=["accuracy"])
    y = np.r_[np.full(20, 2), np.arange(40) % 2]
    prediction = model.predict(X, verbose=0)[20:]
    logs = evaluate(training, y=y)
    expected = -np.log(prediction[np.arange(40), y[20:]]).mean()
    assert logs["kind_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((prediction.argmax(-1) == y[20:]).mean())


@pytest.mark.compiled
def test_metrics_count_each_label():
    """Eight tasks with 40% missing: few rows have all of their labels."""
    metrics = [
        "mae",
        keras.metrics.BinaryAccuracy(name="right"),
        keras.metrics.AUC(num_thresholds=400, name="auc"),
        Largest(),
    ]
    weights = RNG.uniform(size=ROWS).astype("float32")
    training = tasks(metrics=metrics, weighted_metrics=["mse"])
    prediction, there = training.predict(X, verbose=0), ~MISSING
    error = np.abs(prediction - Y)
    logs = evaluate(training, sample_weight=weights)
    assert logs["mae"] == pytest.approx(error[there].mean(), rel=1e-5)
    right = (prediction > 0.5) == Y
    assert logs["right"] == pytest.approx(right[there].mean(), rel=1e-5)
    assert logs["largest"] == pytest.approx(error[there].max(), rel=1e-5)
    of_labels = np.broadcast_to(weights[:, None], Y.shape)[there]
    expected = np.average(error[there] ** 2, weights=of_labels)
    assert logs["mse"] == pytest.approx(expected, rel=1e-5)
    ones, zeros = prediction[there & (Y == 1)], prediction[there & (Y == 0)]
    area = (ones[:, None] > zeros).mean()
    assert logs["auc"] == pytest.approx(area, abs=0.02)


def test_a_metric_of_vectors_says_so():
    with pytest.warns(UserWarning, match="'cosine_similarity' takes whole vectors"):
        training = tasks(metrics=["cosine_similarity", "mae"])
    prediction, whole = training.predict(X, verbose=0), ~MISSING.any(1)
    assert whole.any()
    product = (prediction * Y).sum(1) / np.linalg.norm(prediction, axis=1)
    expected = product / np.maximum(np.linalg.norm(Y, axis=1), 1e-12)
    logs = evaluate(training)
    assert logs["cosine_similarity"] == pytest.approx(expected[whole].mean(), rel=1e-4)


def test_a_metric_without_an_element_is_nan():
    training = tasks(metrics=["mae"])
    logs = evaluate(training, y=np.full_like(Y, np.nan))
    assert np.isnan(logs["mae"])
    assert np.isfinite(evaluate(training)["mae"])


@pytest.mark.parametrize("source", ["arrays", "batch", "generator"])
def test_a_metric_without_a_loss_leaves_the_others_as_they_are(source):
    """Each label is counted, and nothing is nan."""
    x = keras.Input((4,), name="x")
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    outputs = [layers.Dense(TASKS, activation="sigmoid", name="tasks")(x), kind]
    model = keras.Model(x, outputs)
    losses = {"tasks": lw.BranchLoss("binary_crossentropy", missing="nan")}
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile("sgd", metrics={"tasks": ["mae"], "kind": ["accuracy"]})
    kinds = RNG.integers(0, 3, ROWS)
    y = {"tasks": Y_MISSING, "kind": kinds}
    prediction = model.predict(X, verbose=0)
    if source == "arrays":
        logs = evaluate(training, y=y)
    elif source == "batch":
        logs = training.test_on_batch(X, y, return_dict=True)
    else:
        batches = (batch for batch in [(X, y)])
        logs = training.evaluate(batches, steps=1, verbose=0, return_dict=True)
    right = prediction[1].argmax(-1) == kinds
    assert logs["kind_accuracy"] == pytest.approx(right.mean())
    if source != "generator" or keras.backend.backend() != "tensorflow":
        expected = np.abs(prediction[0] - Y)[~MISSING].mean()
        assert logs["tasks_mae"] == pytest.approx(expected, rel=1e-5)
