"""What is reported: losses, weights and metrics, under which names."""

import keras
import numpy as np
import pytest
from balanced_nets import balanced_layer
from keras import ops
from nets import (
    BATCH,
    FIXED,
    LOSSES,
    ROWS,
    arrays,
    copy_of,
    evaluate,
    fixed,
    sample_weights,
    two_heads,
)

import lossweigh as lw
from lossweigh.training.relative_loss import RelativeLoss

X, Y = arrays()
WEIGHTS = sample_weights()


def build(weighter=None, balancer=None):
    return lw.build_training_model(two_heads(), LOSSES, weighter, balancer=balancer)


def names_in(training):
    """The names of the logs: those of each step, and those that `fit` adds."""
    training.reset_metrics()
    logs = training.train_on_batch(X, Y, return_dict=True)
    results = training.evaluate(X, Y, batch_size=ROWS, verbose=0)
    evaluated = evaluate(training)
    by_name = zip(training.metrics_names, np.atleast_1d(results), strict=True)
    assert dict(by_name) == pytest.approx(evaluated)
    history = training.fit(X, Y, validation_data=(X, Y), verbose=0).history
    val = {name.removeprefix("val_") for name in history if name.startswith("val_")}
    only_fit = {"relative_loss"} & val
    assert val - only_fit == evaluated.keys() == logs.keys()
    return val, {name for name in history if not name.startswith("val_")} - val


SUMS = {"unweighted_loss", "relative_loss"}
LOSS_NAMES = {"zeta_loss", "alpha_loss"}
WEIGHT_NAMES = {"zeta_weight", "alpha_weight"}
GRADIENT_NAMES = {
    "zeta_gradient_norm_at_representation",
    "alpha_gradient_norm_at_representation",
    "zeta_alpha_cosine_at_representation",
}
BALANCE_NAMES = {"zeta_balance", "alpha_balance"}


@pytest.mark.compiled
def test_fixed_weights_log_what_keras_logs():
    model = two_heads()
    native = copy_of(model)
    metrics = {"zeta": ["mae"]}
    native.compile("sgd", LOSSES, loss_weights=[0.7, 0.2], metrics=metrics)
    data = {"validation_data": (X, Y), "verbose": 0}
    expected = native.fit(X, Y, **data).history.keys()
    assert fixed(model, metrics=metrics).fit(X, Y, **data).history.keys() == expected


@pytest.mark.parametrize(
    ("weighter", "balancer", "everywhere", "of_fit"),
    [
        (lw.FixedWeights(), None, set(), set()),
        (lw.LossWeighter(), None, SUMS, WEIGHT_NAMES),
        (None, None, set(), set()),
        (lw.Uncertainty(), None, SUMS, WEIGHT_NAMES),
        (lw.RandomWeights(), None, SUMS, WEIGHT_NAMES),
        (None, lw.MGDA(), set(), BALANCE_NAMES),
        (lw.IMTLL(), lw.IMTLG(), SUMS, WEIGHT_NAMES | BALANCE_NAMES),
    ],
    ids=["fixed", "learned", "default", "adaptive", "random", "balancer", "both"],
)
def test_few_are_logged_by_default(weighter, balancer, everywhere, of_fit):
    """Weights where they can move, and in the logs of training only."""
    training = build(weighter, balancer)
    training.compile(keras.optimizers.SGD(0.01))
    assert names_in(training) == ({"loss"} | LOSS_NAMES | everywhere, of_fit)


@pytest.mark.parametrize(
    ("log", "everywhere", "of_fit"),
    [
        ([], set(), set()),
        (["losses"], LOSS_NAMES, set()),
        (("weights",), set(), WEIGHT_NAMES),
        ({"balance"}, set(), BALANCE_NAMES),
        ("unweighted_loss", {"unweighted_loss"}, set()),
        ("relative_loss", {"relative_loss"}, set()),
        (["gradients"], set(), GRADIENT_NAMES),
        (
            ["weights", "balance", "losses", "unweighted_loss"],
            {"unweighted_loss"} | LOSS_NAMES,
            WEIGHT_NAMES | BALANCE_NAMES,
        ),
    ],
    ids=[
        "nothing",
        "losses",
        "weights",
        "balance",
        "a word",
        "relative",
        "gradients",
        "many",
    ],
)
def test_what_is_logged_can_be_chosen(log, everywhere, of_fit):
    training = build(lw.FixedWeights(FIXED), lw.MGDA())
    training.compile(keras.optimizers.SGD(0.01), log=log)
    assert names_in(training) == ({"loss"} | everywhere, of_fit)


@pytest.mark.parametrize(
    ("log", "error", "message"),
    [
        (
            ["weight"],
            ValueError,
            r"`log` may only have the words 'losses', 'weig",
        ),
        (
            "all",
            ValueError,
            r"'relative_loss'\. Received: log='all' \(unkn",
        ),
        ([["losses"]], ValueError, r"\(unknown: \['losses'\]\)"),
        (True, TypeError, r"`log` must be a list of words.* Received: log=True"),
        ({"losses": True}, TypeError, r"`log` must be a list of words"),
        (["balance"], ValueError, r"no balancer.*`build_training_model\(\.\.\., bal"),
        ("gradients", ValueError, r"'gradients' for .* no balancer.*GradientReport"),
    ],
)
def test_what_cannot_be_logged(log, error, message):
    training = build(lw.FixedWeights())
    with pytest.raises(error, match=message):
        training.compile("sgd", log=log)
    assert not training.compiled


def test_what_is_logged_is_saved_and_compiled_anew(tmp_path):
    training = build(lw.LossWeighter())
    training.compile(keras.optimizers.SGD(0.01), log={"weights"})
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    assert names_in(loaded) == ({"loss"}, WEIGHT_NAMES)
    loaded.compile(keras.optimizers.SGD(0.01), log=["losses"])
    assert names_in(loaded) == ({"loss"} | LOSS_NAMES, set())
    loaded.compile(keras.optimizers.SGD(0.01))
    expected = {"loss"} | SUMS | LOSS_NAMES, WEIGHT_NAMES
    assert names_in(loaded) == expected
    loaded.save(tmp_path / "training.keras")
    assert names_in(keras.models.load_model(tmp_path / "training.keras")) == expected


@pytest.mark.compiled
@pytest.mark.parametrize("validated", [False, True])
def test_a_weight_is_the_mean_over_the_epoch(validated):
    """Of the weights in force in the epoch's rows; a validation doesn't matter."""

    class Weights(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_begin(self, batch, logs=None):
            now = self.model.weighter.loss_weights
            self.seen.append(ops.convert_to_numpy(now))

    training = build(lw.LossWeighter())
    training.compile(keras.optimizers.SGD(0.05))
    watch = Weights()
    data = {"validation_data": (X, Y)} if validated else {}
    fit = {"batch_size": BATCH, "epochs": 3, "callbacks": [watch], "verbose": 0}
    history = training.fit(X, Y, **fit, **data).history
    in_force = np.array(watch.seen).reshape(3, 3, 2)
    expected = (in_force * [[4.0], [4.0], [2.0]]).sum(1) / ROWS
    got = np.stack([history["zeta_weight"], history["alpha_weight"]], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.ptp(got[:, 0]) > 1e-3
    last = {name: values[-1] for name, values in history.items()}
    means = {name: last[name] for name in LOSS_NAMES | WEIGHT_NAMES}
    assert training.epoch_means == pytest.approx(means, abs=1e-6)


def test_a_callback_list_sees_the_weights_too():
    training = build(lw.LossWeighter())
    training.compile(keras.optimizers.SGD(0.01))
    callbacks = keras.callbacks.CallbackList([], add_history=True, model=training)
    for _ in range(2):
        training.fit(X, Y, callbacks=callbacks, verbose=0)
    # What is evaluated between two epochs is no training.
    before = training.epoch_means
    training.evaluate(X[:2], {k: v[:2] for k, v in Y.items()}, callbacks=callbacks)
    assert training.epoch_means == before
    assert before["zeta_weight"] == training.history.history["zeta_weight"][-1]


def test_a_metric_cannot_have_the_name_of_what_may_be_logged():
    training = build(lw.LossWeighter())

    def compile_and_test():
        metric = keras.metrics.MeanSquaredError(name="weight")
        training.compile("sgd", log=[], metrics={"zeta": [metric]})
        training.test_on_batch(X, Y)

    with pytest.raises(ValueError, match=r"logged as 'zeta_weight'.*another one"):
        compile_and_test()


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_loss_is_the_weighted_sum(weights):
    training = fixed(two_heads(), log=["losses", "unweighted_loss"])
    logs = evaluate(training, sample_weight=weights)
    expected = 0.7 * logs["zeta_loss"] + 0.2 * logs["alpha_loss"]
    assert logs["loss"] == pytest.approx(expected, abs=1e-6)
    expected = logs["zeta_loss"] + logs["alpha_loss"]
    assert logs["unweighted_loss"] == pytest.approx(expected, abs=1e-6)


def test_what_one_branch_reports_is_its_own():
    """A loss without a number doesn't reach another branch's."""
    model = two_heads()
    expected = evaluate(fixed(copy_of(model)))
    training = fixed(model)
    y = {**Y, "zeta": np.full_like(Y["zeta"], np.inf)}
    logs = evaluate(training, y=y)
    assert logs["zeta_loss"] == np.inf
    assert logs["alpha_loss"] == pytest.approx(expected["alpha_loss"])
    with pytest.warns(UserWarning, match="The loss of the branch 'zeta' is inf"):
        training.fit(X, y, batch_size=ROWS, verbose=0)
    means = training.epoch_means
    assert means["alpha_loss"] == pytest.approx(expected["alpha_loss"])
    assert [means["zeta_weight"], means["alpha_weight"]] == pytest.approx([0.7, 0.2])


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
    fit = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    history = training.fit(X, Y, **fit).history
    logs = {name: values[0] for name, values in history.items()}
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


def test_relative_loss_means_the_same_for_all_branches():
    """Each loss in parts of its first, averaged; of validation too."""
    training = build(lw.LossWeighter())
    training.compile("adam", log=["losses", "relative_loss"])
    data = {"validation_data": (X[:8], {k: v[:8] for k, v in Y.items()}), "verbose": 0}
    history = training.fit(X, Y, epochs=3, **data).history
    for prefix in ("", "val_"):
        parts = [
            np.array(history[f"{prefix}{branch}_loss"]) for branch in training.branches
        ]
        expected = np.mean([part / part[0] for part in parts], axis=0)
        np.testing.assert_allclose(history[f"{prefix}relative_loss"], expected)
    # A second `fit` goes on from the same first losses, and so does a loaded model.
    again = training.fit(X, Y, **data).history
    first = history["zeta_loss"][0], history["alpha_loss"][0]
    now = again["zeta_loss"][0] / first[0], again["alpha_loss"][0] / first[1]
    np.testing.assert_allclose(again["relative_loss"], np.mean(now))


def test_relative_loss_of_unusual_losses():
    """Less is better below 0 too; a first loss of 0 is none; nan isn't better."""
    relative = RelativeLoss(["a", "b"])
    assert relative.of({"a_loss": -2.0, "b_loss": 0.0}) == {"relative_loss": 0.5}
    assert relative.of({"a_loss": -3.0, "b_loss": 4.0}) == {"relative_loss": 0.75}
    assert relative.of({"a_loss": -3.0, "b_loss": 2.0}) == {"relative_loss": 0.5}
    assert np.isnan(relative.of({"a_loss": np.nan, "b_loss": 1.0})["relative_loss"])
    assert relative.of({}) == {}
    val = {"a_loss": 5.0, "b_loss": 1.0}
    assert relative.of(val, "val_") == {"val_relative_loss": 1.0}


@pytest.mark.parametrize("level", ["representation", "parameters", "calibrated"])
def test_what_a_balancer_sees_is_logged(level):
    """Norms of the weighted losses' gradients, and cosines, without another pass."""
    training = build(lw.FixedWeights(FIXED), lw.UPGrad(level=level))
    training.compile(keras.optimizers.SGD(0.0), log=["gradients"])
    expected = training.inspect(X, Y, batch_size=ROWS)
    history = training.fit(X, Y, batch_size=ROWS, epochs=4, verbose=0).history
    norms = {
        branch: history[f"{branch}_gradient_norm_at_{level}"][-1]
        for branch in training.branches
    }
    cosine = history[f"zeta_alpha_cosine_at_{level}"][-1]
    if level == "parameters":
        for branch, weight in FIXED.items():
            norm = weight * expected.gradient_norm[branch]
            np.testing.assert_allclose(norms[branch], norm, rtol=1e-5)
        np.testing.assert_allclose(cosine, expected.cosine["zeta"]["alpha"], atol=1e-5)
    else:  # at other tensors: checked against the balancer's own weights
        state = ops.convert_to_numpy(balanced_layer(training).state.gramian)
        lengths = np.sqrt(np.diag(state))
        np.testing.assert_allclose([*norms.values()], lengths, rtol=1e-5)
        np.testing.assert_allclose(cosine, state[0, 1] / lengths.prod(), rtol=1e-5)
        assert lengths.all()
        assert abs(cosine) < 1


def test_the_weights_in_force_by_name():
    """Also within an epoch, in a callback, where JAX keeps the state elsewhere."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.loss_weights)

    weighter = lw.FixedWeights(FIXED)
    training = lw.build_training_model(two_heads(), LOSSES, weighter)
    assert training.loss_weights == pytest.approx(FIXED)
    assert list(training.loss_weights) == training.branches
    with pytest.raises(TypeError, match=r"read only.*training\.weighter\.assign"):
        training.loss_weights = {"alpha": 2.0}
    assert all(type(weight) is float for weight in training.loss_weights.values())
    training.compile("sgd")
    schedule = lw.callbacks.LossWeightScheduler(
        lambda epoch: {"alpha": epoch + 1.0}, by="epoch"
    )
    x, y = arrays()
    training.fit(x, y, epochs=2, verbose=0, callbacks=[schedule, Look()])
    expected = [{**FIXED, "alpha": 1.0}, {**FIXED, "alpha": 2.0}]
    assert seen == [pytest.approx(weights) for weights in expected]
    assert training.loss_weights == pytest.approx(expected[1])


@pytest.mark.parametrize(
    "names", ["abcdef", ["a_b", "c", "a", "b_c"]], ids=["many", "pairs of one name"]
)
def test_branches_have_one_cosine_each(names):
    x = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh")(x)
    model = keras.Model(x, {n: keras.layers.Dense(1, name=n)(hidden) for n in names})
    training = lw.build_training_model(
        model, dict.fromkeys(names, "mse"), balancer=lw.MGDA()
    )
    training.compile(keras.optimizers.SGD(0.0), log=["gradients"])
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(8, 3)), {n: rng.normal(size=8) for n in names}
    history = training.fit(rows, y, epochs=2, verbose=0).history
    gramian = ops.convert_to_numpy(balanced_layer(training).state.gramian)
    norms = np.sqrt(np.diag(gramian))
    cosines = gramian / np.outer(norms, norms)
    for index, name in enumerate(names):
        lowest = history[f"{name}_lowest_cosine_at_representation"][-1]
        expected = np.delete(cosines[index], index).min()
        np.testing.assert_allclose(lowest, expected, rtol=1e-4)
    assert not any(key.endswith("c_cosine_at_representation") for key in history)


@pytest.mark.parametrize("log", [None, ["losses"]])
@pytest.mark.parametrize("monitor", ["val_relative_loss", "unweighted_loss"])
def test_what_a_callback_monitors_is_logged(monitor, log, tmp_path):
    """With fixed weights too, where it isn't by default."""
    training = build(lw.FixedWeights())
    training.compile("sgd", log=log)
    plain = training.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert monitor not in plain
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor=monitor, save_best_only=True
    )
    options = {"validation_data": (X, Y), "callbacks": [best], "verbose": 0}
    history = training.fit(X, Y, epochs=2, **options).history
    assert best.best == pytest.approx(min(history[monitor]))


@pytest.mark.compiled
@pytest.mark.parametrize("kind", [lw.LossWeighter, lw.FixedWeights])
def test_a_callback_may_move_weights_within_an_epoch(kind):
    """By the training model that it holds, as by its `self.model`."""
    training = build(kind())
    training.compile(keras.optimizers.SGD(0.5))
    seen = []

    class Move(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0 and kind is lw.FixedWeights:
                training.weighter.assign({"zeta": 0.25, "alpha": 0.75})
            elif batch == 0:
                training.weighter.freeze()
            seen.append(training.loss_weights["zeta"])

    training.fit(X, Y, batch_size=ROWS // 4, callbacks=[Move()], verbose=0)
    assert len(seen) > 3
    assert set(seen) == {seen[0]}
    assert kind is lw.LossWeighter or seen[0] == 0.25
