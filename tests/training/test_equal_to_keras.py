"""Cases from public models in which a number differed from native Keras's."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
PRICES = (10 * RNG.normal(size=(12, 1))).astype("float32")
KINDS = RNG.integers(0, 3, 12)


def price_and_kind(name="price", size=1):
    """A model with an output of numbers, and one of three classes."""
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5, activation="tanh")(x)
    return keras.Model(
        x,
        [
            layers.Dense(size, name=name)(hidden),
            layers.Dense(3, activation="softmax", name="kind")(hidden),
        ],
    )


def first_of(result):
    """The loss, from what `evaluate` gives."""
    return float(np.ravel(result)[0])


LOSSES = {"kind": "sparse_categorical_crossentropy", "price": "mse"}
WEIGHTERS = {
    "FixedWeights": lambda weights: lw.FixedWeights(weights),
    "LossWeighter": lambda weights: lw.LossWeighter(initial_weights=weights, barrier=0),
}


@pytest.mark.parametrize("weighter", WEIGHTERS)
def test_a_list_of_weights_is_in_the_order_of_the_outputs(weighter):
    """However the dict of losses is ordered."""
    model = price_and_kind()
    model.compile("sgd", loss=LOSSES, loss_weights=[0.2, 0.8])
    y = {"price": PRICES, "kind": KINDS}
    expected = first_of(model.evaluate(X, y, batch_size=12, verbose=0))
    training = lw.build_training_model(model, LOSSES, WEIGHTERS[weighter]([0.2, 0.8]))
    training.compile("sgd")
    assert training.branches == ["price", "kind"]
    found = first_of(training.evaluate(X, y, batch_size=12, verbose=0))
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_list_of_preferences_is_in_the_order_of_the_outputs():
    y = {"price": PRICES, "kind": KINDS}
    found = []
    for losses in (LOSSES, dict(reversed(LOSSES.items()))):
        keras.utils.set_random_seed(0)
        training = lw.build_training_model(
            price_and_kind(), losses, balancer=lw.UPGrad(preferences=[0.1, 0.9])
        )
        training.compile("sgd")
        training.train_on_batch(X, y)
        found.append(training.prediction_model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_list_is_refused_where_two_dicts_differ_in_order():
    """An output dict has an order of its own; nobody can tell which one is meant."""
    x = keras.Input((4,), name="x")
    model = keras.Model(
        x, {name: layers.Dense(1, name=name)(x) for name in ("price", "size")}
    )
    losses = {"size": "mse", "price": "mse"}
    for arguments in (
        {"weighter": lw.FixedWeights([1.0, 2.0])},
        {"weighter": lw.SmoothTchebycheff(preferences=[1.0, 2.0])},
        {"balancer": lw.UPGrad(preferences=[1.0, 2.0])},
    ):
        with pytest.raises(ValueError, match="in an unclear order"):
            lw.build_training_model(model, losses, **arguments)
    lw.build_training_model(model, losses, lw.FixedWeights({"price": 1.0, "size": 2.0}))
    in_order = dict(reversed(losses.items()))
    lw.build_training_model(model, in_order, lw.FixedWeights([1.0, 2.0]))


class Unordered(keras.Model):
    """Returns a dict whose keys are out of order, and look like numbered outputs."""

    def __init__(self):
        super().__init__()
        self.z, self.a = layers.Dense(1), layers.Dense(1)

    def call(self, x):
        return {"output_z": self.z(x), "output_a": self.a(x)}


def test_lists_for_outputs_of_unknown_order_are_refused():
    """JAX sorts the keys: a list of targets would be swapped there."""
    model = Unordered()
    model(X)
    training = lw.build_training_model(model, {"output_z": "mse", "output_a": "mse"})
    training.compile("sgd")
    with pytest.raises(ValueError, match="must be a dict by name"):
        training.fit(X, [PRICES, PRICES], verbose=0)


class Numbered(Unordered):
    def call(self, x):
        return self.z(x), self.a(x)


def test_lists_for_numbered_outputs_are_taken():
    model = Numbered()
    model(X)
    training = lw.build_training_model(model, ["mse", "mse"])
    training.compile("sgd")
    model.z.kernel.assign(ops.zeros((4, 1)))
    y = [PRICES, 0 * PRICES]
    logs = training.evaluate(X, y, batch_size=12, verbose=0, return_dict=True)
    assert float(logs["output_0_loss"]) == pytest.approx(
        float((PRICES**2).mean()), rel=1e-5
    )


# Losses -------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_equal_to_keras")
def hinge(y_true, y_pred):
    """A user's own: the largest error. It has the name of a loss of Keras's."""
    return ops.max(ops.abs(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable("test_equal_to_keras")
def largest(y_true, y_pred):
    return ops.max(ops.abs(y_true - y_pred), axis=-1)


def test_a_loss_is_not_known_by_its_name():
    y = np.array([[0.0, np.nan, 3.0], [1.0, 2.0, 5.0]], "float32")
    p = np.array([[2.0, 9.0, 3.0], [0.0, 2.0, 1.0]], "float32")
    weights = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]], "float32")
    for arguments, inputs in (
        ({"missing": "nan"}, [y, p]),
        ({}, [np.nan_to_num(y), p, weights[:, :1]]),
    ):
        one, other = (lw.BranchLoss(loss, **arguments) for loss in (hinge, largest))
        np.testing.assert_array_equal(
            ops.convert_to_numpy(one(inputs)), ops.convert_to_numpy(other(inputs))
        )


@pytest.mark.parametrize(
    ("loss", "task_type"),
    [
        ("categorical_hinge", "classification"),
        (keras.losses.Dice(), "classification"),
        (keras.losses.KLDivergence(), "classification"),
        (keras.losses.binary_crossentropy, "classification"),
        ("mse", "regression"),
        (largest, "regression"),
    ],
)
def test_what_is_a_classification(loss, task_type):
    assert lw.BranchLoss(loss).task_type == task_type


@pytest.mark.parametrize("ignored", [0, 255, -1])
def test_an_ignored_class_leaves_the_mean(ignored):
    """Steps of one class count nowhere: the same loss and gradient as in Keras."""
    inputs = keras.Input((9, 2), name="sequence")
    outputs = layers.Dense(4, activation="softmax", name="steps")(inputs)
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 9, 2)).astype("float32")
    y = rng.integers(0, 4, (6, 9))
    y[rng.random(y.shape) < 0.4] = ignored
    native = keras.models.clone_model(model)
    native.set_weights(model.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    native.compile(keras.optimizers.SGD(0.1), loss=loss)
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.1))
    expected = first_of(native.evaluate(x, y, batch_size=6, verbose=0))
    found = first_of(training.evaluate(x, y, batch_size=6, verbose=0))
    assert found == pytest.approx(expected, rel=1e-5)
    native.fit(x, y, batch_size=6, epochs=3, verbose=0)
    training.fit(x, y, batch_size=6, epochs=3, verbose=0)
    for one, other in zip(model.get_weights(), native.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@keras.saving.register_keras_serializable("test_equal_to_keras")
def gaussian(y_true, mean, logvar):
    return ops.square(y_true - mean) * ops.exp(-logvar) + logvar


@pytest.mark.parametrize("form", [(12,), (12, 1)])
def test_a_loss_of_columns_is_not_broadcast(form):
    x = keras.Input((4,), name="x")
    model = keras.Model(
        x, {name: layers.Dense(1, name=name)(x) for name in ("mean", "logvar")}
    )
    branch = lw.BranchLoss(gaussian, of=["mean", "logvar"], target="price")
    training = lw.build_training_model(model, {"likelihood": branch}, lw.FixedWeights())
    training.compile("sgd")
    y = {"price": PRICES.reshape(form)}
    found = first_of(training.evaluate(X, y, batch_size=12, verbose=0))
    predicted = model.predict(X, verbose=0)
    mean, logvar = predicted["mean"], predicted["logvar"]
    expected = np.mean((PRICES - mean) ** 2 * np.exp(-logvar) + logvar)
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_class_weights_of_many_labels_weigh_label_by_label():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(3, activation="sigmoid", name="tags")(x))
    y = np.random.default_rng(2).integers(0, 2, (12, 3))
    training = lw.build_training_model(
        model, {"tags": "binary_crossentropy"}, lw.FixedWeights()
    )
    training.compile(keras.optimizers.SGD(0.0))
    training.reset_metrics()
    logs = training.train_on_batch(
        X, {"tags": y}, class_weight={"tags": {0: 0.5, 1: 4.0}}, return_dict=True
    )
    p = model.predict(X, verbose=0)
    entropies = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    expected = np.mean(np.where(y == 1, 4.0, 0.5) * entropies)
    assert float(logs["tags_loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_class_weights_of_a_regression_are_refused():
    with pytest.raises(ValueError, match="mean_squared_error' has no classes"):
        lw.BranchLoss("mse", class_weight={0: 2.0})
    training = lw.build_training_model(price_and_kind(), LOSSES)
    training.compile("sgd")
    y = {"price": PRICES, "kind": KINDS}
    with pytest.raises(ValueError, match="of the branch 'price' must be left out"):
        training.fit(X, y, class_weight={"price": {0: 2.0}}, verbose=0)


# Weighters and balancers --------------------------------------------------------


def test_what_has_learned_is_not_taken_along():
    layer = lw.Uncertainty()
    y = {"price": PRICES, "kind": KINDS}
    training = lw.build_training_model(price_and_kind(), LOSSES, layer)
    training.compile("sgd")
    lw.build_training_model(price_and_kind(), LOSSES, layer)  # not yet
    training.fit(X, y, verbose=0)
    with pytest.raises(ValueError, match=r"or give `weighter\.fresh\(\)`"):
        lw.build_training_model(price_and_kind(), LOSSES, layer)
    again = layer.fresh()
    assert type(again) is type(layer)
    fresh = {"branches": None, "inferred_task_types": None}
    assert again.get_config() == {**layer.get_config(), **fresh}
    lw.build_training_model(price_and_kind(), LOSSES, again)


def test_a_balancer_may_serve_two_models():
    """It is a description: each training model keeps what its own steps find."""
    balancer, y = lw.MGDA(), {"price": PRICES, "kind": KINDS}
    one, other = (
        lw.build_training_model(price_and_kind(), LOSSES, balancer=balancer)
        for _ in range(2)
    )
    one.compile("sgd")
    one.fit(X, y, verbose=0)
    assert one.balance != {"price": 1.0, "kind": 1.0}
    assert other.balance == {"price": 1.0, "kind": 1.0}


def test_a_weighter_without_state_may_be_shared():
    weighter = lw.FixedWeights([0.2, 0.8])
    for _ in range(2):
        training = lw.build_training_model(price_and_kind(), LOSSES, weighter)
        training.compile("sgd")
        training.fit(X, {"price": PRICES, "kind": KINDS}, verbose=0)


def direction_and_kind():
    return price_and_kind("direction", 3)


DIRECTIONS = RNG.normal(size=(12, 3)).astype("float32")


@pytest.mark.parametrize(
    "loss", ["cosine_similarity", keras.losses.CosineSimilarity(), keras.losses.poisson]
)
def test_a_loss_that_goes_below_zero(loss):
    losses = {"direction": loss, "kind": "sparse_categorical_crossentropy"}
    lw.build_training_model(direction_and_kind(), losses)  # equal weights
    with pytest.raises(ValueError, match="`weighter` must take losses of any sign"):
        lw.build_training_model(direction_and_kind(), losses, lw.Uncertainty())
    lw.build_training_model(direction_and_kind(), losses, lw.LossWeighter())


@keras.saving.register_keras_serializable("test_equal_to_keras")
def sinking(y_true, y_pred):
    """A loss of the user's that training takes below 0."""
    return ops.mean(ops.square(y_true - y_pred), axis=-1) - 1.0


def test_a_training_is_not_aborted_by_a_negative_loss():
    losses = {"direction": sinking, "kind": "sparse_categorical_crossentropy"}
    training = lw.build_training_model(
        direction_and_kind(), losses, lw.RevisedUncertainty()
    )
    training.compile(keras.optimizers.Adam(0.05))
    y = {"direction": 0.1 * DIRECTIONS, "kind": KINDS}
    with pytest.warns(UserWarning, match="needs losses greater than 0") as told:
        history = training.fit(X, y, epochs=6, verbose=0).history
    assert sum("losses greater" in str(one.message) for one in told) == 1
    assert history["direction_loss"][-1] < 0
    assert len(set(history["direction_weight"][-2:])) == 1  # the weight is held


# Compiled prediction models -----------------------------------------------------


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("balancer", [None, lw.MGDA], ids=["plain", "balanced"])
def test_a_compiled_prediction_model_leaves_the_logs_alone(balancer, fitted):
    model = price_and_kind()
    y = {"price": PRICES, "kind": KINDS}
    model.compile("sgd", loss=LOSSES, metrics={"price": ["mae"]})
    if fitted:
        model.fit(X, y, verbose=0)
    training = lw.build_training_model(model, LOSSES, balancer=balancer and balancer())
    training.compile("sgd")
    history = training.fit(X, y, validation_data=(X, y), verbose=0).history
    for prefix in ("", "val_"):
        assert history[f"{prefix}loss"][0] > 0.1
    assert not [key for key in history if "mae" in key]


# Masks and own training ---------------------------------------------------------


@keras.saving.register_keras_serializable("test_equal_to_keras")
class Tokens(layers.Layer):
    """An embedding inside a layer, which computes the mask by itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(7, 4, mask_zero=True)

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.built = True

    def call(self, tokens):
        return self.embedding(tokens) * 2.0

    def compute_mask(self, inputs, previous_mask=None):
        return self.embedding.compute_mask(inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape, 4)


def test_a_mask_that_starts_inside_a_layer():
    """A target of a million at padded steps counts nowhere, as in Keras."""
    tokens = keras.Input((5,), dtype="int32", name="words")
    outputs = layers.Dense(2, name="steps")(Tokens()(tokens))
    model = keras.Model(tokens, outputs)
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [6, 1, 2, 3, 4]])
    y = np.random.default_rng(4).normal(size=(3, 5, 2)).astype("float32")
    y[x == 0] = 1e6
    model.compile("sgd", loss="mse")
    expected = first_of(model.evaluate(x, y, batch_size=3, verbose=0))
    training = lw.build_training_model(model, "mse", lw.FixedWeights())
    training.compile("sgd")
    found = first_of(training.evaluate(x, y, batch_size=3, verbose=0))
    assert expected < 1e3
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Layer 'flatten")  # Keras names the layer
def test_a_mask_that_was_lost_is_said_for_any_loss():
    tokens = keras.Input((5,), dtype="int32", name="words")
    hidden = layers.Embedding(7, 4, mask_zero=True)(tokens)
    hidden = layers.Reshape((5, 4))(layers.Flatten()(hidden))
    model = keras.Model(tokens, layers.Dense(2, name="steps")(hidden))
    x, y = np.array([[1, 2, 0, 0, 0]]), np.zeros((1, 5, 2), "float32")
    training = lw.build_training_model(model, "mse", lw.FixedWeights())
    training.compile("sgd")
    with pytest.warns(UserWarning, match="No mask arrives at the loss 'mean_squared"):
        training.fit(x, y, verbose=0)
    every = lw.BranchLoss("mse", mask=False)  # the cure
    training = lw.build_training_model(model, every, lw.FixedWeights())
    training.compile("sgd")
    training.fit(x, y, verbose=0)


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


class OwnLoss(keras.Model):
    preprocessor = staticmethod(lambda x: x)

    def compute_loss(self, *args, **kwargs):
        return 0.0


class OwnPrediction(keras.Model):
    def predict_step(self, *args):
        return super().predict_step(*args)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (OwnStep, "`train_step`"),
        (OwnLoss, "`compute_loss`, the `pr"),
        (OwnPrediction, "`predict_step`"),
    ],
)
def test_what_a_model_does_in_its_own_fit_is_said(model, words):
    x = keras.Input((4,), name="x")
    prediction = model(x, layers.Dense(1, name="price")(x))
    with pytest.warns(UserWarning, match=f"is left out here: {words}"):
        lw.build_training_model(prediction, "mse")


@pytest.mark.parametrize(
    ("loss", "size", "index"),
    [
        ("sparse_categorical_crossentropy", 3, 3),
        ("categorical_crossentropy", 3, 10**8),
        ("binary_crossentropy", 3, 2),
    ],
)
def test_class_weights_of_classes_that_there_are_not(loss, size, index):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(size, activation="sigmoid", name="kind")(x))
    y = KINDS if "sparse" in loss else np.eye(3)[KINDS]
    training = lw.build_training_model(model, loss)
    training.compile("sgd")
    last = 1 if "binary" in loss else 2
    words = f"must have class indices from 0 to {last} as keys"
    with pytest.raises(ValueError, match=rf"`class_weight\['kind'\]`.* {words}"):
        training.fit(X, y, class_weight={"kind": {index: 2.0}}, verbose=0)
    with pytest.raises(ValueError, match=r"`class_weight`.* must have class indices"):
        lw.build_training_model(model, lw.BranchLoss(loss, class_weight={index: 2.0}))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("low", [-1, 0])
def test_class_weights_of_hinges_weigh_label_by_label(size, low):
    """-1 (or 0) is class 0."""
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(size, activation="tanh", name="side")(x))
    side = np.random.default_rng(5).integers(0, 2, (12, size))
    y = np.where(side == 1, 1.0, low).astype("float32")
    weights = np.where(side == 1, 5.0, 2.0)
    training = lw.build_training_model(model, "hinge", lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    history = training.fit(
        X, y, batch_size=12, class_weight={"side": {0: 2.0, 1: 5.0}}, verbose=0
    )
    values = np.maximum(1 - np.where(side, 1, -1) * model.predict(X, verbose=0), 0)
    expected = (values * weights).mean()
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
