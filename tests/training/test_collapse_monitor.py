"""The literal rule collapses and says so once; the default rule doesn't."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

pytestmark = pytest.mark.compiled

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = {"small": X[:, :1], "large": 100 + 50 * X[:, 1:2]}
FIT = {"epochs": 30, "batch_size": 16, "verbose": 0}


def training_model(weighter, optimizer, **compiled):
    x = keras.Input((3,), name="x")
    heads = {name: layers.Dense(1, name=name)(x) for name in ("small", "large")}
    # The second loss can't be brought down: its targets are far away.
    losses = {"small": "mae", "large": "mae"}
    training = lw.build_training_model(keras.Model(x, heads), losses, weighter)
    training.compile(optimizer, **compiled)
    return training


@pytest.mark.parametrize("log", [None, "losses"])
def test_the_literal_rule_collapses_and_warns_once(log):
    weighter = lw.LossWeighter(barrier=0)
    training = training_model(weighter, keras.optimizers.SGD(0.002), log=log)
    message = r"The loss weight of the branch 'large' is \S+ after epoch \d+: this"
    with pytest.warns(lw.CollapseWarning, match=message) as caught:
        history = training.fit(X, Y, **FIT).history
    assert [one.category for one in caught].count(lw.CollapseWarning) == 1
    np.testing.assert_array_equal(
        ops.convert_to_numpy(weighter.loss_weights), [1.0, 0.0]
    )
    # Nothing of the branch is in the loss, and it is no longer trained.
    assert history["loss"][-1] == pytest.approx(history["small_loss"][-1])
    kernel = training.prediction_model.get_layer("large").get_weights()[0]
    training.fit(X, Y, **FIT)  # another warning would be an error
    after = training.prediction_model.get_layer("large").get_weights()[0]
    np.testing.assert_array_equal(after, kernel)


def test_the_warning_can_be_silenced_or_raised():
    assert issubclass(lw.CollapseWarning, UserWarning)
    for action in ("ignore", "error"):
        training = training_model(lw.LossWeighter(barrier=0), "sgd")
        training.weighter.loss_weight.assign(1.0)
        with warnings.catch_warnings():
            warnings.simplefilter(action, lw.CollapseWarning)
            if action == "ignore":
                training.fit(X, Y, verbose=0)  # another warning would be an error
            else:
                with pytest.raises(lw.CollapseWarning, match="branch 'large' is 0"):
                    training.fit(X, Y, verbose=0)


def test_a_small_weight_on_a_large_loss_is_no_collapse_whatever_is_logged():
    """The callbacks know the losses, and those of training, not of validation."""
    weighter = lw.LossWeighter(barrier=0)
    training = training_model(weighter, keras.optimizers.SGD(0.0), log=[])
    weighter.loss_weight.assign(1 - 1e-5)
    validation = X, {name: y / 100 for name, y in Y.items()}
    y = {"small": Y["small"], "large": 1e3 * Y["large"]}
    training.fit(X, y, validation_data=validation, batch_size=16, verbose=0)
    with pytest.warns(UserWarning, match="weight of the branch 'large' is 1e-05"):
        training.fit(*validation, validation_data=(X, y), batch_size=16, verbose=0)


@pytest.mark.parametrize("weighter", [lw.LossWeighter(), None], ids=["barrier", "none"])
def test_the_defaults_do_not_collapse(weighter):
    training = training_model(weighter, keras.optimizers.Adam(0.05))
    history = training.fit(X, Y, **FIT).history  # a warning would be an error
    weights = ops.convert_to_numpy(training.weighter.loss_weights)
    assert (weights * [1.0, history["large_loss"][-1]]).min() > 0.01
    if isinstance(training.weighter, lw.LossWeighter):
        assert 0.15 < weights.min() < weights.max() < 0.85
    assert history["large_loss"][-1] < history["large_loss"][0]


@pytest.mark.parametrize("form", ["one", "list", "tuple", "CallbackList"])
def test_the_users_callbacks_are_called_too(form):
    epochs = []
    theirs = keras.callbacks.LambdaCallback(on_epoch_end=lambda n, _: epochs.append(n))
    callbacks = {
        "one": theirs,
        "list": [theirs],
        "tuple": (theirs,),
        "CallbackList": keras.callbacks.CallbackList([theirs], add_history=True),
    }[form]
    training = training_model(lw.LossWeighter(barrier=0), "sgd")
    training.weighter.loss_weight.assign(1.0)
    if form == "CallbackList":
        callbacks.set_model(training)
    with pytest.warns(lw.CollapseWarning, match="of the branch 'large'"):
        training.fit(X, Y, callbacks=callbacks, epochs=2, verbose=0)
    assert epochs == [0, 1]
