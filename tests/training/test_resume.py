"""`Resume`: interrupted and gone on with is as trained in one go, to the bit."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from random_nets import FIT, X, Y, training_model

import lossweigh as lw


class Halve(keras.callbacks.Callback):
    """Moves the optimizer after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = self.model.optimizer.learning_rate / 2


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def state(training):
    variables = [*training.variables, *training.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values == other[name], name


def interrupted(path, *callbacks):
    training = training_model()
    with pytest.raises(KeyboardInterrupt):
        training.fit(X, Y, epochs=4, callbacks=[*callbacks, Interrupt()], **FIT)
    assert path.exists()


@pytest.mark.smoke
def test_goes_on_to_the_bit(tmp_path):
    whole = training_model()
    expected = whole.fit(X, Y, epochs=4, callbacks=[Halve()], **FIT)

    path = tmp_path / "new" / "run.weights.h5"
    # First in the list, and nevertheless after what others do.
    interrupted(path, lw.callbacks.Resume(path), Halve())
    resumed = training_model()
    resume = lw.callbacks.Resume(str(path))
    history = resumed.fit(X, Y, epochs=4, callbacks=[resume, Halve()], **FIT)
    assert history.epoch == [2, 3]
    same(history.history, {k: values[2:] for k, values in expected.history.items()})
    for one, other in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not [*path.parent.iterdir()]

    # The next `fit` isn't told any more where to begin.
    assert resumed.fit(X, Y, epochs=1, callbacks=[resume], **FIT).epoch == [0]
    assert resumed.fit(X, Y, epochs=1, **FIT).epoch == [0]


def test_nothing_is_left_of_a_kill_after_the_last_epoch(tmp_path):
    path = tmp_path / "run.weights.h5"
    kept = lw.callbacks.Resume(path, delete_checkpoint=False)
    training_model().fit(X, Y, epochs=2, callbacks=[kept], **FIT)
    # As a process leaves it that is killed when the file has just got its name.
    folder = tmp_path / ".saving-run.weights.h5-abc"
    folder.mkdir()
    (folder / "lock").touch()
    training = training_model()
    resume = lw.callbacks.Resume(path)
    assert training.fit(X, Y, epochs=2, callbacks=[resume], **FIT).epoch == []
    assert not [*tmp_path.iterdir()]


def test_the_file_stays_if_asked_for(tmp_path):
    path = tmp_path / "run.weights.h5"
    resume = lw.callbacks.Resume(path, delete_checkpoint=False)
    training = training_model()
    training.fit(X, Y, epochs=2, callbacks=[resume], **FIT)
    again = training_model()
    assert again.fit(X, Y, epochs=2, callbacks=[resume], **FIT).epoch == []
    for one, other in zip(state(again), state(training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.fit(X, Y, epochs=1, **FIT).epoch == [0]
    assert again.fit(X, Y, epochs=3, callbacks=[resume], **FIT).epoch == [2]
    other = training_model()
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path)  # as any weights
    for one, same_one in zip(other.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same_one)


def test_a_plain_model(tmp_path):
    path = tmp_path / "run.weights.h5"

    def train(epochs):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        resume = lw.callbacks.Resume(path, delete_checkpoint=False)
        fit = {**FIT, "validation_data": None}
        history = model.fit(X, Y["zeta"], epochs=epochs, callbacks=[resume], **fit)
        return history.history["loss"], model.get_weights()

    first, _ = train(2)
    last, weights = train(4)
    path.unlink()
    losses, expected = train(4)
    assert first + last == losses
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_is_not_built(tmp_path):
    model = keras.Sequential([layers.Dense(3)])
    resume = lw.callbacks.Resume(tmp_path / "run.weights.h5")
    resume.set_model(model)
    with pytest.raises(ValueError, match=r"must be built before `fit`, for Resume"):
        resume.on_train_begin()


def test_the_name_of_the_file():
    message = r"must end in `\.weights\.h5`\. Received: filepath='run\.keras'"
    with pytest.raises(ValueError, match=message):
        lw.callbacks.Resume("run.keras")


def foreign(path):
    training_model().save_weights(path)


def of_another_model(path):
    resume = lw.callbacks.Resume(path, delete_checkpoint=False)
    training_model(units=5).fit(X, Y, callbacks=[resume], **FIT)


def of_another_optimizer(path):
    training = training_model()
    training.compile("sgd")
    resume = lw.callbacks.Resume(path, delete_checkpoint=False)
    training.fit(X, Y, callbacks=[resume], **FIT)


def damaged(path):
    foreign(path)
    path.write_bytes(path.read_bytes()[:1000])


REFUSED = {
    foreign: "It doesn't say how many epochs",
    of_another_model: "could not be loaded|Skipping",
    of_another_optimizer: "Skipping variable loading for optimizer",
    damaged: "file",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_a_file_that_does_not_fit(write, tmp_path):
    path = tmp_path / "run.weights.h5"
    write(path)
    before = path.read_bytes()
    message = rf"Resume can't go on from '.*run\.weights\.h5'.*({REFUSED[write]})"
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        training_model().fit(X, Y, callbacks=[lw.callbacks.Resume(path)], **FIT)
    assert path.read_bytes() == before
