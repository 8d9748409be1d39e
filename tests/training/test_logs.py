"""What is reported: losses, weights and metrics, under which names."""

import keras
import numpy as np
import pytest
from keras import ops
from nets import (
    BATCH,
    LOSSES,
    ROWS,
    arrays,
    copy_of,
    evaluate,
    fixed,
    numbers,
    sample_weights,
    two_heads,
)

import lossweigh as lw

X, Y = arrays()
WEIGHTS = sample_weights()


@pytest.mark.compiled
def test_names_of_logs_and_history():
    training = fixed(two_heads(), metrics={"zeta": ["mae"]})
    history = training.fit(X, Y, validation_data=(X, Y), verbose=0)
    names = {
        "loss",
        *("zeta_loss", "alpha_loss", "unweighted_loss"),
        *("zeta_weight", "alpha_weight", "zeta_mae"),
    }
    assert history.history.keys() == names | {f"val_{name}" for name in names}
    logs = evaluate(training)
    assert logs.keys() == names
    results = training.evaluate(X, Y, batch_size=ROWS, verbose=0)
    assert dict(zip(training.metrics_names, results, strict=True)) == logs


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_loss_is_the_weighted_sum(weights):
    training = fixed(two_heads())
    logs = evaluate(training, sample_weight=weights)
    expected = 0.7 * logs["zeta_loss"] + 0.2 * logs["alpha_loss"]
    assert logs["loss"] == pytest.approx(expected, abs=1e-6)
    expected = logs["zeta_loss"] + logs["alpha_loss"]
    assert logs["unweighted_loss"] == pytest.approx(expected, abs=1e-6)
    assert logs["zeta_weight"] == pytest.approx(0.7)
    assert logs["alpha_weight"] == pytest.approx(0.2)


def test_what_one_branch_reports_is_its_own():
    """A loss without a number doesn't reach another branch's."""
    model = two_heads()
    expected = evaluate(fixed(copy_of(model)))
    logs = evaluate(fixed(model), y={**Y, "zeta": np.full_like(Y["zeta"], np.inf)})
    assert logs["zeta_loss"] == np.inf
    for name in ("alpha_loss", "zeta_weight", "alpha_weight"):
        assert logs[name] == pytest.approx(expected[name])


def test_regularisers_are_in_the_loss_alone():
    model = two_heads(regularised=True)
    logs = evaluate(fixed(model))
    hidden = keras.Model(model.input, model.layers[1].output)
    activity = 0.1 * (hidden.predict(X, verbose=0) ** 2).sum() / len(X)
    l2 = 0.1 * (ops.convert_to_numpy(model.layers[1].kernel) ** 2).sum()
    expected = 0.7 * logs["zeta_loss"] + 0.2 * logs["alpha_loss"] + activity + l2
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_an_epoch_of_unequal_batches_is_averaged_as_keras_does():
    model = two_heads()
    native = copy_of(model)
    native.compile(
        keras.optimizers.SGD(0.1),
        loss=LOSSES,
        loss_weights={"zeta": 0.7, "alpha": 0.2},
        metrics={"zeta": ["mae"], "alpha": ["accuracy"]},
    )
    training = fixed(model, metrics={"zeta": ["mae"], "alpha": ["accuracy"]})
    arguments = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = native.fit(X, Y, **arguments).history
    history = training.fit(X, Y, **arguments).history
    # Keras on TensorFlow counts a partial batch's branch losses as a whole one's.
    for name in ("loss", "zeta_mae", "alpha_accuracy"):
        np.testing.assert_allclose(history[name], expected[name], atol=1e-5)
    branch_losses = [np.array(history[f"{name}_loss"]) for name in ("zeta", "alpha")]
    total = 0.7 * branch_losses[0] + 0.2 * branch_losses[1]
    np.testing.assert_allclose(total, history["loss"], atol=1e-6)


@pytest.mark.compiled
def test_the_weight_in_a_log_is_the_one_that_was_in_force():
    training = lw.build_training_model(two_heads(), LOSSES, lw.LossWeighter(barrier=0))
    training.compile(keras.optimizers.SGD(0.1))
    logs = numbers(training.train_on_batch(X, Y, return_dict=True))
    assert logs["zeta_weight"] == pytest.approx(0.5)
    expected = (logs["zeta_loss"] + logs["alpha_loss"]) / 2
    assert logs["loss"] == pytest.approx(expected, abs=1e-6)
    moved = ops.convert_to_numpy(training.weighter.loss_weights)
    step = 0.1 * (logs["zeta_loss"] - logs["alpha_loss"])
    np.testing.assert_allclose(moved, [0.5 - step, 0.5 + step], atol=1e-6)


def test_compiling_again_drops_the_old_metrics():
    training = fixed(two_heads(), metrics={"zeta": ["mae"]})
    before = evaluate(training)
    training.compile("sgd", metrics={"alpha": ["accuracy"]})
    after = evaluate(training)
    assert before.keys() - after.keys() == {"zeta_mae"}
    assert after.keys() - before.keys() == {"alpha_accuracy"}
    assert after["zeta_loss"] == pytest.approx(before["zeta_loss"])
    metrics = {id(metric) for metric in training.metrics}
    assert len(training.metrics) == len(metrics) == 4
