"""The wiring by hand: losses as layers, a dummy target, `ignoreLoss` (S1)."""

import fresh
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from nets import LOSSES, arrays, fixed, numbers, two_heads

import lossweigh as lw

pytestmark = pytest.mark.compiled

RNG = np.random.default_rng(1)
IMAGES = RNG.random((12, 6, 6, 1), "float32")
MAPS = RNG.integers(0, 2, (12, 3, 3, 1)).astype("float32")
CLASSES = np.eye(4, dtype="float32")[RNG.integers(0, 4, 12)]
DUMMY = np.zeros(12)


def loss_of_map(tensors):
    true, predicted = tensors
    crossentropy = keras.losses.binary_crossentropy(true, predicted)
    return ops.mean(crossentropy, axis=(1, 2))


def loss_of_class(tensors):
    true, predicted = tensors
    return keras.losses.binary_crossentropy(true, predicted)


def seed_models(weighter=None):
    """The prediction model and the training model, as the post wires them."""
    image = keras.Input((6, 6, 1), name="image")
    shared = layers.Conv2D(4, 2, strides=2, activation="relu")(image)
    place = layers.Conv2D(1, 1, activation="sigmoid", name="map")(shared)
    kind = layers.Dense(4, activation="sigmoid", name="class")(layers.Flatten()(shared))
    prediction = keras.Model(image, [place, kind])

    true_map = keras.Input((3, 3, 1), name="true_map")
    true_class = keras.Input((4,), name="true_class")
    first = layers.Lambda(loss_of_map, name="map_loss")([true_map, place])
    second = layers.Lambda(loss_of_class, name="class_loss")([true_class, kind])
    if weighter is None:
        weighter = lw.LossWeighter(barrier=0, name="weighter")
    weighted = weighter([first, second])
    training = keras.Model([image, true_map, true_class], weighted)
    training.compile(keras.optimizers.Adam(0.01), loss=lw.ignoreLoss)
    return prediction, training, weighter


def test_the_seed_trains_and_its_weight_moves():
    prediction, training, weighter = seed_models()
    before = prediction.get_weights()
    history = training.fit(
        [IMAGES, MAPS, CLASSES], DUMMY, epochs=5, batch_size=12, verbose=0
    ).history["loss"]
    assert history[-1] < history[0]
    variable = weighter.loss_weight
    assert isinstance(variable.constraint, lw.Between)
    assert any(variable is one for one in training.trainable_variables)
    assert not any(variable is one for one in prediction.weights)
    assert abs(ops.convert_to_numpy(variable) - 0.5) > 0.01
    for one, old in zip(prediction.get_weights(), before, strict=True):
        assert (one != old).any()
    place, kind = prediction.predict(IMAGES, verbose=0)
    assert (place.shape, kind.shape) == ((12, 3, 3, 1), (12, 4))


@pytest.mark.smoke
def test_the_seed_computes_its_formula():
    prediction, training, weighter = seed_models()
    weighter.loss_weight.assign(0.3)
    place, kind = (np.clip(p, 1e-7, 1) for p in prediction.predict(IMAGES, verbose=0))

    def crossentropy(true, p):
        return -(true * np.log(p) + (1 - true) * np.log(1 - p))

    first = crossentropy(MAPS, place).mean((1, 2, 3))
    second = crossentropy(CLASSES, kind).mean(1)
    expected = 0.3 * first + 0.7 * second
    data = [IMAGES, MAPS, CLASSES]
    np.testing.assert_allclose(training.predict(data, verbose=0), expected, atol=1e-5)
    loss = training.evaluate(data, DUMMY, verbose=0)
    assert loss == pytest.approx(expected.mean(), abs=1e-5)


LOAD = """
import sys
import keras, numpy as np
import lossweigh
sys.path.insert(0, "tests/training")
from test_ignore_loss import CLASSES, DUMMY, IMAGES, MAPS, loss_of_class, loss_of_map

functions = {"loss_of_map": loss_of_map, "loss_of_class": loss_of_class}
training = keras.models.load_model(sys.argv[1], custom_objects=functions)
fit = {"batch_size": 12, "epochs": 2, "verbose": 0}
history = training.fit([IMAGES, MAPS, CLASSES], DUMMY, **fit).history["loss"]
print(*history)
"""


def test_the_seed_is_saved_and_goes_on(tmp_path):
    _, training, _ = seed_models()
    data, fit = [IMAGES, MAPS, CLASSES], {"batch_size": 12, "epochs": 2, "verbose": 0}
    training.fit(data, DUMMY, **fit)
    training.save(tmp_path / "training.keras")
    expected = training.fit(data, DUMMY, **fit).history["loss"]
    output = fresh.run(LOAD, tmp_path / "training.keras").splitlines()[-1]
    assert [float(word) for word in output.split()] == pytest.approx(expected, abs=1e-6)


def test_the_seed_warns_of_its_collapse():
    _, training, _ = seed_models()
    training.compile(keras.optimizers.SGD(20.0), loss=lw.ignoreLoss)
    with pytest.warns(
        lw.CollapseWarning, match="The loss weight of the branch number [01]"
    ):
        training.fit(
            [IMAGES, MAPS, CLASSES],
            DUMMY,
            epochs=20,
            verbose=0,
            callbacks=[lw.callbacks.CollapseMonitor()],
        )


@pytest.mark.smoke
def test_the_built_model_is_the_seed():
    """`build_training_model` and the wiring by hand give the same numbers."""
    prediction, by_hand, _ = seed_models()
    losses = {"map": "binary_crossentropy", "class": "binary_crossentropy"}
    built = lw.build_training_model(prediction, losses, lw.LossWeighter(barrier=0))
    built.compile(keras.optimizers.Adam(0.01))
    start = prediction.get_weights()
    data, fit = [IMAGES, MAPS, CLASSES], {"batch_size": 12, "epochs": 3, "verbose": 0}
    expected = by_hand.fit(data, DUMMY, **fit).history["loss"]
    after = prediction.get_weights()
    prediction.set_weights(start)
    history = built.fit(data, DUMMY, **fit).history
    assert history["loss"] == pytest.approx(expected, abs=1e-5)
    for one, other in zip(prediction.get_weights(), after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


X, Y = arrays()
DUMMIES = {"zeros": np.zeros(10), "none": None}


@pytest.mark.parametrize("dummy", DUMMIES)
def test_targets_in_one_list_with_the_inputs(dummy):
    training = fixed(two_heads())
    together = [X, Y["zeta"], Y["alpha"]]
    named = {"x": X, "zeta_target": Y["zeta"], "alpha_target": Y["alpha"]}
    y, quiet = DUMMIES[dummy], {"verbose": 0, "return_dict": True}
    expected = numbers(training.evaluate(X, Y, **quiet))
    for x in (together, tuple(together), named):
        assert numbers(training.evaluate(x, y, **quiet)) == pytest.approx(expected)
        training.reset_metrics()
        logs = training.test_on_batch(x, y, return_dict=True)
        assert numbers(logs) == pytest.approx(expected)
    stream = tf.data.Dataset.from_tensor_slices(named).batch(4)
    assert numbers(training.evaluate(stream, **quiet)) == pytest.approx(expected)
    weights = {"alpha": np.arange(10.0)}
    history = training.fit(
        together, y, sample_weight=weights, validation_split=0.2, verbose=0
    ).history
    assert history["val_alpha_loss"][0] != pytest.approx(history["alpha_loss"][0])
    after = numbers(training.evaluate(together, y, **quiet))
    assert after["loss"] != pytest.approx(expected["loss"])


def test_ignore_loss_is_registered_under_both_names():
    assert lw.ignore_loss is lw.ignoreLoss
    assert keras.saving.get_registered_name(lw.ignoreLoss) == "lossweigh>ignoreLoss"
    values = np.array([1.0, 2.0])
    assert lw.ignoreLoss(LOSSES, values) is values
