"""A branch that has stopped weighs nothing, and its head does not move at all."""

import keras
import numpy as np
import pytest
from two_branches import (
    VALIDATION,
    Record,
    X,
    Y,
    adam,
    fit,
    numbers,
    training_model,
    weights_of,
)

import lossweigh as lw
from lossweigh.callbacks import StopBranch

SGD = keras.optimizers.SGD


def moved(before, after):
    """The names of the layers whose weights differ."""
    return {
        path.split("/")[0]
        for path in before
        if not np.array_equal(before[path], after[path])
    }


def predictions_of(model):
    return numbers(model.prediction_model)


A_HEAD = {"a_inner", "a_normed", "a"}


@pytest.mark.parametrize(
    ("balancer", "compiled"),
    [
        (None, {}),
        (None, {"run_eagerly": False}),
        (lw.UPGrad(), {}),
        (lw.MGDA(level="parameters"), {}),
    ],
    ids=["eager", "compiled", "UPGrad", "MGDA"],
)
@pytest.mark.filterwarnings("ignore::lossweigh.AdviceWarning")
def test_the_head_rests_and_all_else_goes_on(balancer, compiled):
    training = training_model(balancer=balancer, **compiled)
    weights, record = Record(weights_of), Record(predictions_of)
    history = fit(training, StopBranch(2, folder=None), weights, record)
    # The first validation is the best: two more, and `a` stops.
    np.testing.assert_array_equal(weights.seen[1], [1, 1])
    np.testing.assert_array_equal(weights.seen[2:], [[0, 1]] * 2)
    np.testing.assert_allclose(history["a_weight"], [1, 1, 1, 0])
    every = A_HEAD | {"shared", "b"}
    for before, after in zip(record.seen[:2], record.seen[1:3], strict=True):
        assert moved(before, after) == every
    for before, after in zip(record.seen[2:], record.seen[3:], strict=False):
        assert moved(before, after) == {"shared", "b"}
    assert training.weighter.stopped == ["a"]
    assert int(training.optimizer.iterations) == 4


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: SGD(0.05, momentum=0.9, global_clipnorm=1.0),
        lambda: keras.optimizers.RMSprop(0.01, gradient_accumulation_steps=2),
        lambda: keras.optimizers.LossScaleOptimizer(adam()),
    ],
    ids=["clipped", "accumulated", "scaled"],
)
def test_whatever_the_optimizer(optimizer):
    training = training_model(optimizer())
    record = Record(predictions_of)
    fit(training, StopBranch(1, folder=None), record, epochs=3, batch_size=8)
    assert moved(record.seen[1], record.seen[2]) == {"shared", "b"}


def test_what_goes_on_trains_as_if_the_branch_were_not_there():
    """By a model of the other branch alone, from where the first one stopped."""
    training = training_model(SGD(0.05))
    record = Record(predictions_of)
    fit(training, StopBranch(1, folder=None), record, epochs=4)

    x = keras.Input((3,), name="x")
    shared = keras.layers.Dense(4, activation="tanh", name="shared")(x)
    alone = keras.Model(x, keras.layers.Dense(2, name="b")(shared))
    for variable in alone.weights:
        variable.assign(record.seen[1][variable.path])
    alone.compile(SGD(0.05), loss="mae")
    alone.fit(X, Y["b"], batch_size=16, epochs=2, shuffle=False, verbose=0)
    after = numbers(training.prediction_model)
    for path, values in numbers(alone).items():
        np.testing.assert_allclose(after[path], values, rtol=1e-5, atol=1e-6)


def test_when_it_stops_is_a_loops_answer():
    """By the losses in the history, for several patiences and deltas."""
    rows = np.random.default_rng(3).uniform(0, 1, (12, 2))

    def stops(losses, patience, min_delta):
        best, waits = np.inf, 0
        for epoch, loss in enumerate(losses):
            if loss < best - min_delta:
                best, waits = loss, 0
            else:
                waits += 1
            if waits == max(patience, 1):
                return epoch
        return None

    training = training_model()
    for patience, min_delta in [(0, 0.0), (1, 0.0), (3, 0.0), (4, 0.2), (99, 0.0)]:
        weighter = lw.FixedWeights(branches=["a", "b"])
        weighter.build([(None,), (None,)])
        rule = StopBranch(patience, min_delta=min_delta, mode="min", folder=None)
        rule.set_model(training)
        rule.on_train_begin()
        seen = {}
        for epoch, row in enumerate(rows):
            rule.advance(row, weighter)
            for branch in weighter.stopped:
                seen.setdefault(branch, epoch)
        for index, branch in enumerate(["a", "b"]):
            expected = stops(rows[:, index], patience, min_delta)
            assert seen.get(branch) == expected, (patience, branch)


def test_training_stops_with_the_last_branch_and_a_new_fit_moves_nothing():
    training = training_model()
    far = (X, {"a": -Y["a"], "b": -Y["b"] + 50 * np.sign(-Y["b"])})
    rule = StopBranch(1, min_delta=100.0, folder=None)
    history = fit(training, rule, epochs=9, validation_data=far)
    assert len(history["loss"]) == 2
    assert training.stop_training
    assert training.weighter.stopped == ["a", "b"]
    before = numbers(training.prediction_model)
    history = fit(training, rule, epochs=9, validation_data=far)
    assert len(history["loss"]) == 1
    assert not moved(before, numbers(training.prediction_model))


def test_each_branchs_best_model_is_written(tmp_path):
    training = training_model()
    record = Record(predictions_of)
    folder = tmp_path / "new" / "best"
    history = fit(training, StopBranch(2, folder=folder), record)
    assert sorted(path.name for path in folder.iterdir()) == [
        "best_a.keras",
        "best_b.keras",
    ]
    for branch in ("a", "b"):
        best = keras.models.load_model(folder / f"best_{branch}.keras")
        epoch = int(np.argmin(history[f"val_{branch}_loss"]))
        assert not moved(record.seen[epoch], numbers(best))
        assert all(layer.trainable for layer in best.layers)


def test_a_file_that_cannot_be_written_ends_no_training(tmp_path):
    folder = tmp_path / "best"
    rule = StopBranch(2, folder=folder)
    folder.write_text("in the way")
    with pytest.warns(UserWarning, match="best model of the branch 'a' could not"):
        history = fit(training_model(), rule, epochs=1)
    assert len(history["loss"]) == 1


def test_more_of_a_metric_is_better():
    metrics = {"a": [keras.metrics.R2Score(name="r2")], "b": ["mae"]}
    names = {"a": "val_a_r2", "b": "val_b_mae"}
    training = training_model(metrics=metrics)
    rule = StopBranch(1, monitor=names, mode={"a": "max", "b": "auto"}, folder=None)
    history = fit(training, rule, epochs=2)
    assert np.all(np.diff(history["val_a_r2"]) < 0)
    assert np.all(np.diff(history["val_b_mae"]) < 0)
    assert training.weighter.stopped == ["a"]
    np.testing.assert_array_equal(rule.signs, [-1, 1])
    rule = StopBranch(1, monitor=names, folder=None)
    fit(training, rule, epochs=1)
    np.testing.assert_array_equal(rule.signs, [-1, 1])


def test_a_direction_that_nobody_knows_must_be_said():
    def strange(y_true, y_pred):
        return keras.ops.mean(y_pred, axis=-1)

    training = training_model(metrics={"a": [strange], "b": [strange]})
    rule = StopBranch(1, monitor="val_{branch}_strange", folder=None)
    with pytest.raises(ValueError, match="`mode` must say whether less or more of"):
        fit(training, rule)


def test_layers_of_two_branches_rest_when_both_have_stopped():
    x = keras.Input((3,), name="x")
    shared = keras.layers.Dense(4, name="shared")(x)
    two = keras.layers.Dense(3, name="two")(shared)
    heads = {
        "a": keras.layers.Dense(1, name="a")(two),
        "b": keras.layers.Dense(2, name="b")(two),
        "c": keras.layers.Dense(1, name="c")(shared),
    }
    losses = dict.fromkeys(heads, "mse")
    model = keras.Model(x, heads)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile(adam())
    targets = {**Y, "c": Y["a"]}

    def layers_moved():
        before = numbers(model)
        training.fit(X, targets, epochs=2, verbose=0)
        return moved(before, numbers(model))

    assert layers_moved() == {"shared", "two", "a", "b", "c"}
    training.weighter.stop("b")
    assert layers_moved() == {"shared", "two", "a", "c"}
    training.weighter.stop("a")
    assert layers_moved() == {"shared", "c"}
    training.compile(adam())
    assert layers_moved() == {"shared", "c"}


def test_a_model_that_hides_its_layers_stops_the_weight_and_says_so():
    @keras.saving.register_keras_serializable(package="test_stop_branch")
    class Hidden(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.a, self.b = keras.layers.Dense(1), keras.layers.Dense(2)

        def call(self, x, training=False):
            if training:
                x = x * 1.0
            return {"a": self.a(x), "b": self.b(x)}

    model = Hidden()
    model(X)
    losses = {"a": "mse", "b": "mae"}
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile(SGD(0.01))
    with pytest.warns(UserWarning, match="so these aren't frozen"):
        fit(training, StopBranch(1, folder=None), epochs=3)
    np.testing.assert_array_equal(weights_of(training), [0, 1])


@pytest.mark.once
def test_bad_arguments(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for arguments, message in [
        ({"patience": -1}, "`patience` must be a whole number of at least 0"),
        ({"patience": 1, "min_delta": -1}, "`min_delta` must be at least 0"),
        ({"patience": 1, "mode": "less"}, "`mode` must be one of 'auto', 'min', 'max'"),
        ({"patience": 1, "mode": {"a": "up"}}, "`mode` must be one of"),
        ({"patience": 1, "folder": file}, "`folder` must be a folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            StopBranch(**arguments)
    rule = StopBranch(1, mode={"a": "min"}, folder=None)
    with pytest.raises(ValueError, match="`mode` must have the names"):
        fit(training_model(), rule, validation_data=VALIDATION)


def test_a_stopped_branch_stays_at_0_whatever_is_loaded():
    """As `EarlyStopping(restore_best_weights=True)` does it."""
    training = training_model()
    before = training.get_weights()
    training.weighter.stop("a")
    training.set_weights(before)
    assert training.loss_weights["a"] == 0
    assert training.loss_weights["b"] > 0
