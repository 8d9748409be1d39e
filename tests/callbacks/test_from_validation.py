"""What all callbacks that set weights after a validation do."""

import keras
import numpy as np
import pytest
from keras import ops
from two_branches import (
    VALIDATION,
    Record,
    X,
    Y,
    fit,
    numbers,
    training_model,
    weights_of,
)

import lossweigh as lw
from lossweigh.callbacks import CoBa, DynamicTaskPriority, StopBranch


@keras.saving.register_keras_serializable(package="test_from_validation")
def nearness(y_true, y_pred):
    """From 0 to 1."""
    return ops.exp(-ops.mean(ops.abs(y_true - y_pred), axis=-1))


class Broken(Exception):
    pass


class BreaksOff(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise Broken


def rules():
    """CoBa and StopBranch on one model: `a` stops in the third of four epochs."""
    return [CoBa(window=3, warmup=2), StopBranch(2, folder=None)]


def everything(training):
    """All that the training has, as it is."""
    return {
        **numbers(training),
        **{v.path: keras.ops.convert_to_numpy(v) for v in training.optimizer.variables},
        **training.weighter.memory,
    }


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def resumed_from_a_file(balancer, folder):
    training = training_model(balancer=balancer)
    fit(training, *rules(), epochs=3)
    training.save(folder / "t.keras")
    again = keras.models.load_model(folder / "t.keras")
    fit(again, *rules(), epochs=4, initial_epoch=3)
    return again


def resumed_by_keras(balancer, folder):
    """The backup comes first, and so is written before later callbacks are called."""

    def backup():
        return keras.callbacks.BackupAndRestore(folder / "backup")

    training = training_model(balancer=balancer)
    with pytest.raises(Broken):
        fit(training, backup(), *rules(), BreaksOff())
    again = training_model(balancer=balancer)
    history = fit(again, backup(), *rules())
    assert len(history["loss"]) == 1
    return again


@pytest.mark.parametrize(
    ("resumed", "balancer"),
    [(resumed_from_a_file, lw.UPGrad()), (resumed_by_keras, None)],
)
def test_resumed_to_the_bit(tmp_path, resumed, balancer):
    whole = training_model(balancer=balancer)
    record = Record(weights_of)
    fit(whole, *rules(), record)
    assert whole.weighter.stopped == ["a"]
    assert len({tuple(weights) for weights in record.seen}) > 2
    same(everything(whole), everything(resumed(balancer, tmp_path)))


def test_a_metrics_rule_is_resumed_too(tmp_path):
    def rule():
        return DynamicTaskPriority("val_{branch}_nearness", discount=0.3)

    metrics = {"a": [nearness], "b": [nearness]}
    whole, first = (training_model(metrics=metrics) for _ in range(2))
    fit(whole, rule(), epochs=3)
    assert np.all(weights_of(whole) != 1)
    fit(first, rule(), epochs=2)
    first.save(tmp_path / "t.keras")
    again = keras.models.load_model(tmp_path / "t.keras")
    fit(again, rule(), epochs=3, initial_epoch=2)
    same(everything(whole), everything(again))


def test_a_number_that_is_not_finite_changes_nothing_and_warns_once():
    training = training_model()
    fit(training, CoBa(warmup=2), epochs=2)
    before = weights_of(training), dict(training.weighter.memory)
    broken = (X, {"a": np.full((16, 1), 1e30, "float32"), "b": Y["b"]})
    with pytest.warns(UserWarning, match="'val_a_loss' is inf in epoch 1") as caught:
        fit(training, CoBa(warmup=2), epochs=2, validation_data=broken)
    assert len([w for w in caught if "CoBa needs" in str(w.message)]) == 1
    np.testing.assert_array_equal(weights_of(training), before[0])
    same(training.weighter.memory, before[1])


def test_a_metric_out_of_bounds_changes_nothing_and_warns():
    training = training_model(metrics={"a": ["r2_score"], "b": ["r2_score"]})
    with pytest.warns(UserWarning, match="needs a metric from 0 to 1 of each branch"):
        fit(training, DynamicTaskPriority("val_{branch}_r2_score"), epochs=1)
    np.testing.assert_array_equal(weights_of(training), [1, 1])


def test_a_metric_of_which_less_is_better_is_refused():
    training = training_model(metrics={"a": ["mse"], "b": ["mse"]})
    with pytest.raises(ValueError, match=r"of which more is better.*'val_a_mse'"):
        fit(training, DynamicTaskPriority("val_{branch}_mse"), epochs=1)


def test_without_validation_it_warns_once_and_trains():
    training = training_model()
    with pytest.warns(
        UserWarning, match="up to the end of epoch 1 there was none"
    ) as w:
        history = fit(training, CoBa(), epochs=2, validation_data=None)
    assert len([one for one in w if "there was none" in str(one.message)]) == 1
    assert len(history["loss"]) == 2
    assert not training.weighter.memory


def test_validations_count_and_not_epochs_or_evaluations():
    training = training_model()
    rule = CoBa(warmup=2)
    with pytest.warns(UserWarning, match="there was none"):
        history = fit(training, rule, epochs=4, validation_freq=2)
    assert len(history["val_a_loss"]) == 2
    assert len(training.weighter.memory["coba_ratios"]) == 2
    fit(training, rule, epochs=1)
    training.evaluate(*VALIDATION, verbose=0, callbacks=[rule])
    assert len(training.weighter.memory["coba_ratios"]) == 3


def test_a_stopped_branch_keeps_its_weight_of_0():
    training = training_model()
    training.weighter.stop("b")
    fit(training, CoBa(warmup=2), epochs=2)
    weights = weights_of(training)
    assert weights[1] == 0
    assert weights[0] not in (0, 1)


@pytest.mark.parametrize(
    ("rule", "arguments", "message"),
    [
        (
            lambda: CoBa(),
            {"weighter": lw.DWA()},
            "CoBa must be used with a model that has one FixedWeights layer",
        ),
        (lambda: CoBa(), {"log": ["weights"]}, "`log` with 'losses', for a loss"),
        (
            lambda: DynamicTaskPriority("val_{branch}_auc"),
            {},
            "`monitor` must name logs of the validation, of .*'val_a_loss'.* Received "
            "'val_a_auc' for the branch 'a'",
        ),
        (
            lambda: CoBa(monitor={"a": "val_a_loss"}),
            {},
            r"`monitor` must have the names \['a', 'b'\]",
        ),
    ],
)
def test_what_the_model_lacks_is_said_before_it_trains(rule, arguments, message):
    training = training_model(**arguments)
    with pytest.raises(ValueError, match=message):
        fit(training, rule())
    assert int(training.optimizer.iterations) == 0


def test_a_model_that_was_wired_by_hand_has_no_names():
    inputs = [keras.Input((1,)), keras.Input((1,))]
    losses = [keras.layers.Dense(1)(x) for x in inputs]
    model = keras.Model(inputs, lw.FixedWeights()(losses))
    model.compile("sgd", loss=lw.ignoreLoss)
    x = [np.ones((4, 1))] * 2
    with pytest.raises(ValueError, match="a model that was wired by hand"):
        model.fit(x, np.zeros(4), verbose=0, callbacks=[CoBa()])


@pytest.mark.once
@pytest.mark.parametrize(
    ("monitor", "error", "message"),
    [
        (3, TypeError, "`monitor` must be a string"),
        ("val_loss", ValueError, "`monitor` must have a log for each branch"),
        ("{branch}_loss", ValueError, "which begin with 'val_'"),
        ({"a": "a_loss"}, ValueError, "which begin with 'val_'"),
    ],
)
def test_bad_monitors(monitor, error, message):
    with pytest.raises(error, match=message):
        CoBa(monitor=monitor)
