"""An exact pass is made when it is due, however the steps are asked for."""

import keras
import numpy as np
import pytest
from balanced_nets import (
    Uneven,
    balanced_layer,
    data,
    plain,
    state_of,
    train,
    weights_of,
)

import lossweigh as lw

pytestmark = pytest.mark.compiled

BACKEND = keras.backend.backend()
EVERY = 3
LEVELS = {"parameters": lw.Parameters, "calibrated": lw.Calibrated}


def kept_at_the_parameters():
    return Uneven(level=lw.Parameters(update_every=EVERY))


class Weights(keras.callbacks.Callback):
    """The weights in force and the age of the last exact pass, after each step.

    With `steps`, the age becomes 0 after some of them: the next pass is due at once.
    """

    def __init__(self, steps=()):
        super().__init__()
        self.steps, self.weights, self.ages = steps, [], []

    def on_train_batch_end(self, batch, logs=None):
        if BACKEND == "jax":  # where a model in training has its variables elsewhere
            self.model.jax_state_sync()
        self.weights.append(weights_of(self.model).tolist())
        self.ages.append(state_of(self.model)["age"])
        if batch in self.steps:
            balanced_layer(self.model).state.level["age"].assign(0.0)


def found_anew(weights):
    """In which steps the weights were others than in the step before."""
    return [
        step
        for step, now in enumerate(weights)
        if step == 0 or not np.allclose(now, weights[step - 1], rtol=1e-6)
    ]


def start(model, balancer=None, **compiling):
    optimizer = compiling.pop("optimizer", keras.optimizers.SGD(0.1))
    _, y = data(model)
    return train(
        model, y, balancer or kept_at_the_parameters(), optimizer=optimizer, **compiling
    )


def step_by_step(model, x, y, rows, steps):
    """What `train_on_batch` makes of a model: its weights after these many steps."""
    before = model.get_weights()
    training = start(model)
    batches = len(x) // rows
    for step in range(steps):
        part = slice(step % batches * rows, (step % batches + 1) * rows)
        training.train_on_batch(x[part], {k: v[part] for k, v in y.items()})
    after = model.get_weights()
    model.set_weights(before)
    return after


def test_in_fit_and_over_epochs():
    """Two steps an epoch, a pass in every third: the count goes on."""
    model = plain()
    x, y = data(model, rows=8)
    expected = step_by_step(model, x, y, rows=4, steps=10)
    training, seen = start(model), Weights()
    training.fit(
        x, y, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=[seen]
    )
    training.fit(  # and over the next `fit`, with nobody looking
        x, y, batch_size=4, epochs=2, shuffle=False, verbose=0
    )
    assert found_anew(seen.weights) == [0, 3]
    assert seen.ages == [1, 2, 0, 1, 2, 0]
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


if BACKEND != "torch":  # where Keras has no such thing

    def test_several_steps_at_once():
        """Five batches: the last execution of an epoch is a shorter one.

        The first of them holds two exact passes.
        """
        model = plain()
        x, y = data(model, rows=20)
        expected = step_by_step(model, x, y, rows=4, steps=15)
        training = start(model, steps_per_execution=4)
        training.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        for one, other in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_age_that_a_callback_gives():
    model = plain()
    x, y = data(model, rows=28)
    training, seen = start(model), Weights(steps=[1])
    training.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[seen])
    assert found_anew(seen.weights) == [0, 2, 5]
    assert seen.ages == [1, 2, 1, 2, 0, 1, 2]


def test_weights_that_are_loaded(tmp_path):
    """Another model's weights, in the middle: what it would have done comes next."""
    model = plain()
    x, y = data(model)
    training = start(model)
    for _ in range(2):
        training.train_on_batch(x, y)
    training.save_weights(tmp_path / "two_steps.weights.h5")
    losses = [float(training.train_on_batch(x, y)[0]) for _ in range(4)]
    kept = weights_of(training)
    training.load_weights(tmp_path / "two_steps.weights.h5")
    assert losses == pytest.approx(
        [float(training.train_on_batch(x, y)[0]) for _ in range(4)], rel=1e-5
    )
    np.testing.assert_allclose(weights_of(training), kept, rtol=1e-5)


def test_compiled_again():
    model = plain()
    x, y = data(model)
    training, weights = start(model), []
    for step in range(7):
        training.train_on_batch(x, y)
        weights.append(weights_of(training).tolist())
        if step == 1:
            # Slow on JAX, which compiles each operation: one of the modes elsewhere.
            eagerly = BACKEND != "jax"
            training.compile(keras.optimizers.SGD(0.05), run_eagerly=eagerly)
        if step == 4:
            training.compile(keras.optimizers.SGD(0.1))
    assert found_anew(weights) == [0, 3, 6]


def test_a_step_that_fails():
    """It makes no pass and isn't counted."""
    model = plain()
    x, y = data(model)
    training, weights = start(model), []
    for step in range(7):
        if step == 3:
            with pytest.raises(Exception, match=r"(?i)shape|size|dimension|axis"):
                training.train_on_batch(x, {**y, "z": y["z"][:, :1].repeat(5, axis=1)})
        training.train_on_batch(x, y)
        weights.append(weights_of(training).tolist())
    assert found_anew(weights) == [0, 3, 6]


@pytest.mark.parametrize("level", ["parameters", "calibrated"])
def test_steps_that_loss_scaling_skips(level):
    """The first pass is made in the first step that counts."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = plain()
        x, y = data(model)
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.01), initial_scale=2.0**22
        )
        balancer = Uneven(level=LEVELS[level](update_every=50))
        training = start(model, balancer, optimizer=optimizer)
        before, skipped = model.get_weights()[0], 0
        for _ in range(40):
            training.train_on_batch(x, y)
            if not np.array_equal(model.get_weights()[0], before):
                break
            assert weights_of(training).tolist() == [1, 1, 1]
            assert state_of(training)["age"] == 0
            skipped += 1
        assert 0 < skipped < 30
        assert state_of(training)["age"] == 1
        assert (np.abs(weights_of(training) - 1) > 0.01).all()
    finally:
        keras.config.set_dtype_policy("float32")


class Asking(lw.UPGrad):
    """Notes what the steps that find weights were told."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.told = set()

    def advance(self, statistics, state):
        self.told.add(balanced_layer(self.training).exact)
        return super().advance(statistics, state)


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("level", "scaled"),
    [
        ("calibrated", False),
        *([("parameters", False), ("calibrated", True)] if BACKEND == "jax" else []),
    ],
)
def test_two_programs_on_jax(level, scaled):
    """A step knows beforehand what it does, but where the optimizer may skip it."""
    model = plain()
    x, y = data(model)
    optimizer = keras.optimizers.SGD(0.1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    balancer = Asking(level=LEVELS[level](update_every=EVERY))
    training = balancer.training = start(model, balancer, optimizer=optimizer)
    for _ in range(2):
        training.train_on_batch(x, y)
    knows = {True, False} if level == "calibrated" else {True}
    assert balancer.told == (knows if BACKEND == "jax" and not scaled else {None})
    assert balanced_layer(training).exact is None
