"""What is warned of after the first epoch: in time, once, and only with reason."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import lossweigh as lw

ROWS = 32


def build(weighter=None, balancer=None, **compiling):
    x = keras.Input((4,))
    hidden = layers.Dense(8, activation="tanh")(x)
    model = keras.Model(x, {n: layers.Dense(1, name=n)(hidden) for n in "ab"})
    training = lw.build_training_model(
        model, dict.fromkeys("ab", "mse"), weighter or lw.FixedWeights(), balancer
    )
    training.compile(keras.optimizers.SGD(1e-6), **compiling)
    return training


def draw(scale=1.0, mean=0.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4))
    return x, {"a": rng.normal(size=ROWS), "b": mean + scale * rng.normal(size=ROWS)}


def advice_of(training, x, y, **kwargs):
    """The advice that a `fit` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", lw.AdviceWarning)
        training.fit(x, y, verbose=0, **kwargs)
    return [str(w.message) for w in caught if issubclass(w.category, lw.AdviceWarning)]


def test_a_large_loss_of_a_target_that_is_not_standardised():
    x, y = draw(scale=173.0)
    training = build()
    (advice,) = advice_of(training, x, y, epochs=2)
    assert "of the branch 'b'" in advice
    assert "that of 'a'" in advice
    assert f"the spread {y['b'].std():.4g}" in advice
    ratio = training.epoch_means["b_loss"] / training.epoch_means["a_loss"]
    assert f"is {ratio:.3g} times as large" in advice
    assert advice_of(training, x, y) == []  # once
    training.compile("sgd")
    assert len(advice_of(training, x, y)) == 1


def test_a_balancer_may_make_up_for_it():
    x, y = draw(scale=173.0)
    assert advice_of(build(balancer=lw.IMTLG()), x, y, batch_size=8) == []


def test_advice_comes_in_the_fit_that_gives_the_reason():
    """To try one epoch first, without callbacks, takes nothing away."""
    x, y = draw()
    training = build(lw.LossWeighter())
    assert advice_of(training, x, y, validation_data=(x, y)) == []
    stop = keras.callbacks.EarlyStopping()
    arguments = {"validation_data": (x, y), "callbacks": [stop], "epochs": 2}
    assert len(advice_of(training, x, y, **arguments)) == 1
    assert advice_of(training, x, y, **arguments) == []


def test_only_what_is_logged_is_recommended():
    x, y = draw()
    training = build(lw.LossWeighter(), log=["losses"])
    stop = keras.callbacks.EarlyStopping()
    (advice,) = advice_of(training, x, y, validation_data=(x, y), callbacks=[stop])
    assert "relative_loss" not in advice
    assert "'val_a_loss'" in advice


def test_marks_of_missing_labels_have_no_scale():
    x, y = draw()
    y["b"][::3] = -999.0
    model = build().prediction_model
    losses = {"a": "mse", "b": lw.BranchLoss("mse", missing=-999.0)}
    training = lw.build_training_model(
        model, losses, lw.FixedWeights({"a": 1e-5, "b": 1.0})
    )
    training.compile("sgd")
    assert advice_of(training, x, y) == []


class OneBatch(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.batch = x, y

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def test_a_data_set_has_no_spread_to_tell():
    (advice,) = advice_of(build(), OneBatch(*draw(scale=173.0)), None)
    assert "spread" not in advice
    assert "Standardise the target" in advice


def test_the_target_of_a_small_loss_is_not_large():
    weighter = lw.FixedWeights({"a": 1e-5, "b": 1.0})
    assert advice_of(build(weighter), OneBatch(*draw(scale=1.0)), None) == []


@pytest.mark.parametrize(
    ("weighter", "scale", "mean"),
    [
        (lw.FixedWeights, 1.0, 0.0),
        (lambda: lw.FixedWeights({"a": 1.0, "b": 1e-4}), 173.0, 0.0),
        (lambda: lw.FixedWeights({"a": 1e-5, "b": 1.0}), 1.0, 0.0),
        (lambda: lw.FixedWeights({"a": 1e-9, "b": 1.0}), 0.01, 0.0),
    ],
    ids=["of one size", "weighed already", "the user's weights", "a small target"],
)
def test_no_advice_without_reason(weighter, scale, mean):
    x, y = draw(scale, mean)
    assert advice_of(build(weighter()), x, y) == []


def test_it_can_be_turned_off_and_filtered():
    x, y = draw(scale=173.0)
    assert advice_of(build(advise=False), x, y) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", lw.AdviceWarning)
        build().fit(x, y, verbose=0)


@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_an_unheard_branch(level):
    x, y = draw()
    weights = lw.FixedWeights({"a": 1.0, "b": 1e-4})
    training = build(weights, lw.UPGrad(level=level))
    (advice,) = advice_of(training, x, y, epochs=1, batch_size=8)
    assert "The branch 'b' has" in advice
    assert "UPGrad combines" in advice
    assert advice_of(build(weights, lw.IMTLG(level=level)), x, y, batch_size=8) == []


def test_a_branch_among_many_is_heard():
    """Of 150 branches an equal share is less than a hundredth."""
    x = keras.Input((4,))
    hidden = layers.Dense(8, activation="tanh")(x)
    names = [f"number_{index}" for index in range(150)]
    model = keras.Model(x, {n: layers.Dense(1, name=n)(hidden) for n in names})
    training = lw.build_training_model(
        model, dict.fromkeys(names, "mse"), balancer=lw.NormBalancer()
    )
    training.compile(keras.optimizers.SGD(1e-6))
    rng = np.random.default_rng(0)
    y = {name: rng.normal(size=ROWS) for name in names}
    assert advice_of(training, rng.normal(size=(ROWS, 4)), y, batch_size=16) == []


def test_an_unheard_branch_is_not_sent_to_the_balancer_that_it_has():
    x, y = draw()
    balancer = lw.NormBalancer(preferences={"a": 1.0, "b": 1e-4})
    (advice,) = advice_of(build(balancer=balancer), x, y, batch_size=8)
    assert advice.endswith("such as `IMTLG()`.")


@pytest.mark.parametrize(
    ("callback", "watches"),
    [
        (lambda: keras.callbacks.EarlyStopping(), "val_loss"),
        (lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss"), "loss"),
        (lambda: keras.callbacks.EarlyStopping("val_a_loss"), None),
    ],
    ids=["stops", "slows", "right"],
)
def test_callbacks_that_watch_a_moving_total(callback, watches):
    x, y = draw()
    data = {"validation_data": (x, y)}
    advice = advice_of(build(lw.LossWeighter()), x, y, callbacks=[callback()], **data)
    assert advice_of(build(), x, y, callbacks=[callback()], **data) == []
    if watches is None:
        assert advice == []
        return
    (advice,) = advice
    assert f"watches '{watches}'" in advice
    better = watches.replace("loss", "relative_loss")
    assert f"Monitor '{better}'" in advice
    # The cure: the direction is known, and nothing is said.
    cure = keras.callbacks.EarlyStopping(better)
    training = build(lw.LossWeighter())
    assert advice_of(training, x, y, callbacks=[cure], **data) == []
    assert cure.mode == "min"


def test_checkpoints_watch_only_where_they_choose(tmp_path):
    x, y = draw()
    every = keras.callbacks.ModelCheckpoint(tmp_path / "every.keras")
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    data = {"validation_data": (x, y)}
    assert advice_of(build(lw.DWA()), x, y, callbacks=[every], **data) == []
    (advice,) = advice_of(build(lw.DWA()), x, y, callbacks=[best], **data)
    assert advice.startswith("ModelCheckpoint watches 'val_loss'")
