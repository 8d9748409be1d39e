"""A schedule sets the weights of the very step or epoch that it is for."""

import keras
import numpy as np
import pytest
from keras import layers

import lossweigh as lw
from lossweigh.callbacks import LossWeightScheduler

pytestmark = pytest.mark.compiled

ROWS, BATCH = 12, 4
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = {"a": X[:, :1], "b": -X[:, :2]}


def training_model(weighter=None, **compiled):
    keras.utils.set_random_seed(0)
    x = keras.Input((3,), name="x")
    heads = {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(2, name="b")(x)}
    losses = {"a": "mse", "b": "mae"}
    if weighter is None:
        weighter = lw.FixedWeights()
    training = lw.build_training_model(keras.Model(x, heads), losses, weighter)
    training.compile(keras.optimizers.SGD(0.0), **compiled)
    return training


def fit(training, schedule, epochs=3):
    arguments = {"batch_size": BATCH, "epochs": epochs, "shuffle": False}
    return training.fit(X, Y, verbose=0, callbacks=[schedule], **arguments).history


class Steps(keras.callbacks.Callback):
    """Counts how often the step was made anew."""

    def on_train_begin(self, logs=None):
        self.function = self.model.train_function

    def on_train_end(self, logs=None):
        assert self.model.train_function is self.function


def test_by_epoch_without_a_recompilation():
    training = training_model()
    schedule = LossWeightScheduler(lambda epoch: {"a": 0.25 * epoch, "b": 1.0})
    training.fit(X, Y, verbose=0)  # the step is traced with other weights
    history = training.fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[schedule, Steps()],
    ).history
    np.testing.assert_allclose(history["a_weight"], [0.0, 0.25, 0.5], atol=1e-6)
    np.testing.assert_allclose(history["b_weight"], [1.0, 1.0, 1.0], atol=1e-6)
    # The learning rate is 0, so the branch losses stand still.
    a, b = history["a_loss"][0], history["b_loss"][0]
    expected = [b, 0.25 * a + b, 0.5 * a + b]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


def test_weights_are_logged_from_the_first_schedule_on():
    """Those of `FixedWeights` stand still until there is one."""
    data = {"validation_data": (X, Y), "verbose": 0}
    few, moving = {"loss", "a_loss", "b_loss"}, {"a_weight", "b_weight"}
    schedule = LossWeightScheduler(lambda epoch: {"b": 2.0})

    def names(training, **arguments):
        history = training.fit(X, Y, **data, **arguments).history
        val = {name for name in history if name.startswith("val_")}
        logs = training.evaluate(X, Y, verbose=0, return_dict=True)
        assert val - {"val_relative_loss"} == {f"val_{name}" for name in logs}
        return history.keys() - val, logs.keys()

    training = training_model()
    assert names(training) == (few, few)
    many, moving = few | {"unweighted_loss"}, moving | {"relative_loss"}
    assert names(training, callbacks=[schedule]) == (many | moving, many)
    assert names(training) == (many | moving, many)
    training.compile(keras.optimizers.SGD(0.0))
    assert names(training) == (few, few)
    training.compile(keras.optimizers.SGD(0.0), log=["losses"])
    assert names(training, callbacks=schedule) == (few, few)


def test_by_step_is_in_force_in_the_very_step():
    training = training_model()
    schedule = LossWeightScheduler(lambda step: [step, 2.0 * step + 1.0], by="step")
    history = fit(training, schedule)
    steps = np.arange(9).reshape(3, 3)
    np.testing.assert_allclose(history["a_weight"], steps.mean(1), rtol=1e-6)
    np.testing.assert_allclose(history["b_weight"], (2 * steps + 1).mean(1), rtol=1e-6)
    rows = {"a": [], "b": []}
    for start in range(0, ROWS, BATCH):
        part = slice(start, start + BATCH)
        targets = {name: values[part] for name, values in Y.items()}
        logs = training.test_on_batch(X[part], targets, return_dict=True)
        training.reset_metrics()
        for name in rows:
            rows[name].append(float(logs[f"{name}_loss"]))
    expected = steps * np.array(rows["a"]) + (2 * steps + 1) * np.array(rows["b"])
    np.testing.assert_allclose(history["loss"], expected.mean(1), rtol=1e-4)


def test_steps_go_on_from_where_they_are_told():
    schedule = LossWeightScheduler(lambda n: [1.0, n], by="step", initial_step=10)
    history = fit(training_model(), schedule, epochs=1)
    np.testing.assert_allclose(history["b_weight"], [11.0], rtol=1e-6)
    assert schedule.step == 13


def test_each_fit_counts_its_steps_anew():
    training = training_model()
    schedule = LossWeightScheduler(lambda n: [1.0, n], by="step", initial_step=2)
    first, second = (fit(training, schedule, epochs=1) for _ in range(2))
    np.testing.assert_allclose(first["b_weight"], [3.0], rtol=1e-6)
    np.testing.assert_allclose(second["b_weight"], [3.0], rtol=1e-6)


if keras.backend.backend() != "torch":  # where Keras runs one step at a time

    def test_several_steps_in_one_execution_have_the_first_ones_weights():
        training = training_model(steps_per_execution=3)
        schedule = LossWeightScheduler(lambda n: [1.0, n], by="step")
        history = fit(training, schedule, epochs=2)
        np.testing.assert_allclose(history["b_weight"], [0.0, 3.0], rtol=1e-6)


def test_a_dict_may_leave_branches_as_they_are():
    training = training_model(lw.FixedWeights({"a": 3.0, "b": 5.0}))
    fit(training, LossWeightScheduler(lambda epoch: {"b": 7.0}), epochs=1)
    weights = keras.ops.convert_to_numpy(training.weighter.loss_weights)
    np.testing.assert_array_equal(weights, [3.0, 7.0])


def test_works_in_a_model_that_was_wired_by_hand():
    inputs = [keras.Input((1,)), keras.Input((1,))]
    same = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    weighted = lw.FixedWeights([1.0, 1.0])([same(loss) for loss in inputs])
    model = keras.Model(inputs, weighted)
    model.compile(keras.optimizers.SGD(0.0), loss=lw.ignoreLoss)
    losses = [np.full((8, 1), 1.0), np.full((8, 1), 10.0)]
    schedule = LossWeightScheduler(lambda epoch: [1.0 - epoch, float(epoch)])
    history = model.fit(
        losses, np.zeros(8), epochs=2, verbose=0, callbacks=[schedule]
    ).history
    np.testing.assert_allclose(history["loss"], [1.0, 10.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: LossWeightScheduler([1, 2]),
            TypeError,
            "`schedule` must be a function",
        ),
        (
            lambda: LossWeightScheduler(lambda n: [1, 2], by="batch"),
            ValueError,
            "`by` must be one of 'epoch', 'step'",
        ),
        (
            lambda: LossWeightScheduler(lambda n: [1], initial_step=-1),
            ValueError,
            "`initial_step` must be at least 0",
        ),
        (
            lambda: fit(training_model(), LossWeightScheduler(lambda n: [1, 2, 3])),
            ValueError,
            "one number for each of the 2 branches. Received 3",
        ),
        (
            lambda: fit(training_model(), LossWeightScheduler(lambda n: {"c": 1})),
            ValueError,
            "`weights` may only have the names",
        ),
        (
            lambda: fit(
                training_model(lw.LossWeighter()), LossWeightScheduler(lambda n: [1, 2])
            ),
            ValueError,
            "must be used with a model that has one FixedWeights layer",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_all_but_the_schedule_is_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        LossWeightScheduler(lambda n: [1, 2], "step")
