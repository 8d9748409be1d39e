"""What is said at the end of an epoch about weights and losses that went wrong."""

import keras
import numpy as np
import pytest
from methods import array, step

import lossweigh as lw


@keras.saving.register_keras_serializable(package="tests")
def root_of_error(y_true, y_pred):
    """nan where the target is above the prediction; for targets far from it only."""
    return keras.ops.mean(keras.ops.sqrt(y_pred - y_true), axis=-1)


@keras.saving.register_keras_serializable(package="tests")
def below_zero(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_pred - y_true), axis=-1) - 5.0


def trained(weighter, losses, targets, epochs=1, callbacks=None):
    """Fits a training model with the branches odd and even for a few steps."""
    x = keras.Input((2,), name="x")
    heads = {name: keras.layers.Dense(1, name=name)(x) for name in ("odd", "even")}
    losses = dict(zip(heads, losses, strict=True))
    model = lw.build_training_model(keras.Model(x, heads), losses, weighter)
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    data = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    targets = {
        name: np.full((4, 1), target, "float32")
        for name, target in zip(heads, targets, strict=True)
    }
    model.fit(
        data, targets, batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return model


# Losses -------------------------------------------------------------------------


def test_a_negative_loss_warns_where_positive_ones_are_needed():
    """The training goes on, and the branch keeps its weight."""
    weighter = lw.IMTLL(name="mine")
    message = (
        r"`IMTLL` \('mine'\) needs losses greater than 0\. The branch 'odd' has a "
        r"mean loss of -\d.* in epoch 1, and keeps the weight that it had\. Add"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        trained(weighter, [below_zero, "mse"], (0, 1), epochs=3)
    assert sum("needs losses" in str(warning.message) for warning in caught) == 1
    odd, even = array(weighter.loss_weights)
    assert odd == 1.0
    assert even != 1.0


def test_a_negative_loss_is_fine_elsewhere():
    trained(lw.SumToOne(), [below_zero, "mse"], (0, 1))
    trained(lw.SoftAdapt(variant="normalized"), [below_zero, "mse"], (0, 1))


def test_a_loss_that_is_not_finite_warns_and_moves_no_state():
    weighter = lw.Uncertainty()
    with pytest.warns(UserWarning, match="loss of the branch 'odd' is nan in epoch 1"):
        trained(weighter, [root_of_error, "mse"], (1e6, 1))
    np.testing.assert_array_equal(array(weighter.iterations), [0, 1])
    assert array(weighter.parameters)[0] == 0


def test_it_warns_once_a_branch():
    with pytest.warns(UserWarning, match="The loss of the branch") as caught:
        trained(lw.DWA(), ["mse", "mse"], (np.inf, 1), epochs=3)
    texts = [str(warning.message) for warning in caught]
    assert sum("of the branch 'odd'" in text for text in texts) == 1


# Weights ------------------------------------------------------------------------


def look(weighter, **logs):
    """What the callback finds in a model with that layer at the end of an epoch."""
    inputs = [keras.Input(()) for _ in range(weighter.num_branches)]
    callback = lw.callbacks.CollapseMonitor()
    callback.set_model(keras.Model(inputs, weighter(inputs)))
    callback.on_epoch_end(0, logs)


def two(method, first_weight, **arguments):
    weighter = method(branches=["odd", "even"], **arguments)
    step(weighter, 1, 2)
    if isinstance(weighter, lw.LossWeighter):
        weighter.loss_weight.assign(first_weight)
    else:
        weighter.current.assign([first_weight, 1.0])
    return weighter


def test_a_vanished_weight_warns_once():
    weighter = two(lw.LossWeighter, 1.0, barrier=0)
    with pytest.warns(
        lw.CollapseWarning, match="loss weight of the branch 'even' is 0 after"
    ):
        look(weighter, odd_loss=1.0, even_loss=2.0)
    look(weighter, odd_loss=1.0, even_loss=2.0)


def test_a_weight_on_its_bound_warns():
    weighter = two(lw.LossWeighter, 0.8, min_weight=0.2)
    with pytest.warns(
        lw.CollapseWarning, match="of the branch 'even' is 0.2 after epoch 1"
    ):
        look(weighter, odd_loss=1.0, even_loss=2.0)


def test_a_small_weight_on_a_large_loss_is_no_collapse():
    look(two(lw.Uncertainty, 1e-6), odd_loss=1e6, even_loss=1.0)


def test_a_small_weight_on_a_small_loss_is_one():
    with pytest.warns(lw.CollapseWarning, match="of the branch 'odd'"):
        look(two(lw.Uncertainty, 1e-6), odd_loss=0.5, even_loss=1.0)


def test_a_weight_that_was_larger_in_the_epoch_is_no_collapse():
    logs = {"odd_loss": 1.0, "even_loss": 1.0, "odd_weight": 0.4, "even_weight": 0.6}
    look(two(lw.SoftAdapt, 1e-6), **logs)


def test_without_logs_the_weight_alone_counts():
    weighter = lw.LossWeighter(barrier=0)
    step(weighter, 1, 2)
    weighter.loss_weight.assign(0.0)
    with pytest.warns(lw.CollapseWarning, match="of the branch number 0"):
        look(weighter)
    weighter = lw.IMTLL()
    step(weighter, 1, 2)
    weighter.current.assign([1e-6, 1.0])
    look(weighter)


def test_weights_that_the_user_sets_and_single_ones_do_not_warn():
    weighter = lw.FixedWeights([1.0, 0.0])
    step(weighter, 1, 2)
    look(weighter)
    weighter = lw.LossWeighter()
    step(weighter, 1)
    look(weighter)
