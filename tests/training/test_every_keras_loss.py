"""Each loss of `keras.losses` gives what it gives there, or is refused with a cure."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw
from lossweigh.branches.labels import weight_of_class

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
WEIGHTS = RNG.uniform(size=6).astype("float32")
CLASSES = [(3,), (5, 3), (4, 4, 3)]
SHAPES = [*CLASSES, (1,)]


def target(kind, shape):
    """Targets of six samples."""
    size = (6, *shape)
    return {
        "numbers": lambda: RNG.normal(size=size),
        "positive": lambda: RNG.uniform(0.1, 1, size),
        "binary": lambda: RNG.integers(0, 2, size),
        "sign": lambda: 2 * RNG.integers(0, 2, size) - 1,
        "one-hot": lambda: np.eye(shape[-1])[RNG.integers(0, shape[-1], size[:-1])],
        "indices": lambda: RNG.integers(0, shape[-1], size[:-1]),
        "a row": lambda: RNG.integers(0, shape[-1], 6),
    }[kind]().astype("int32" if kind in ("indices", "a row") else "float32")


# class: kind of target, activation, shapes of the prediction
LOSSES = {
    "MeanSquaredError": ("numbers", "linear", SHAPES),
    "MeanAbsoluteError": ("numbers", "linear", SHAPES),
    "MeanAbsolutePercentageError": ("positive", "linear", SHAPES),
    "MeanSquaredLogarithmicError": ("positive", "sigmoid", SHAPES),
    "Huber": ("numbers", "linear", SHAPES),
    "LogCosh": ("numbers", "linear", SHAPES),
    "CosineSimilarity": ("numbers", "linear", SHAPES),
    "Poisson": ("positive", "sigmoid", SHAPES),
    "KLDivergence": ("one-hot", "softmax", CLASSES),
    "BinaryCrossentropy": ("binary", "sigmoid", SHAPES),
    "BinaryFocalCrossentropy": ("binary", "sigmoid", SHAPES),
    "CategoricalCrossentropy": ("one-hot", "softmax", CLASSES),
    "CategoricalFocalCrossentropy": ("one-hot", "softmax", CLASSES),
    "SparseCategoricalCrossentropy": ("indices", "softmax", CLASSES),
    "Hinge": ("sign", "linear", SHAPES),
    "SquaredHinge": ("sign", "linear", SHAPES),
    "CategoricalHinge": ("one-hot", "linear", SHAPES),
    "Circle": ("a row", "linear", [(3,)]),
    "CategoricalGeneralizedCrossEntropy": ("a row", "softmax", [(3,)]),
}
# What changes a shape or a number: class, arguments, kind, activation, shape
ARGUMENTS = {
    "Dice": ("Dice", {"axis": (1, 2, 3)}, "binary", "sigmoid", (4, 4, 3)),
    "Dice of channels": ("Dice", {"axis": (1, 2)}, "binary", "sigmoid", (4, 4, 3)),
    "Tversky": ("Tversky", {"axis": (1, 2, 3)}, "binary", "sigmoid", (4, 4, 3)),
    "Huber": ("Huber", {"delta": 0.3}, "numbers", "linear", (5, 3)),
    "cosine": ("CosineSimilarity", {"axis": 1}, "numbers", "linear", (5, 3)),
    "binary": ("BinaryCrossentropy", {"axis": 1}, "binary", "sigmoid", (5, 3)),
    "focal": (
        "BinaryFocalCrossentropy",
        {"axis": 1, "apply_class_balancing": True},
        "binary",
        "sigmoid",
        (5, 3),
    ),
    "one-hot": ("CategoricalCrossentropy", {"axis": 1}, "one-hot", "softmax", (5, 3)),
    "smooth": (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2, "from_logits": True},
        "one-hot",
        "linear",
        (5, 3),
    ),
    "indices": (
        "SparseCategoricalCrossentropy",
        {"axis": 1},
        "other axis",
        "softmax",
        (5, 3),
    ),
}


def both(loss, activation, shape):
    """A model with the loss, and its training model."""
    x = keras.Input((4,))
    hidden = layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(x))
    model = keras.Model(x, layers.Activation(activation, name="out")(hidden))
    model.compile("sgd", loss=loss)
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile("sgd")
    return model, training


def same(loss, y, activation, shape):
    """In training models; with weights where Keras can apply one a sample."""
    model, training = both(loss, activation, shape)
    for weights in (None, WEIGHTS) if len(shape) == 1 else (None,):
        native, ours = (
            float(np.ravel(m.test_on_batch(X, y, sample_weight=weights))[0])
            for m in (model, training)
        )
        assert ours == pytest.approx(native, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_number(name):
    kind, activation, shapes = LOSSES[name]
    same(getattr(keras.losses, name)(), target(kind, shapes[0]), activation, shapes[0])


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_number_of_a_layer(name):
    """As a class, by its name, and for predictions of other shapes."""
    kind, activation, shapes = LOSSES[name]
    loss = getattr(keras.losses, name)
    for shape in shapes:
        y = ops.convert_to_tensor(target(kind, shape))
        prediction = RNG.normal(size=(6, *shape)).astype("float32")
        prediction = keras.activations.get(activation)(
            ops.convert_to_tensor(prediction)
        )
        expected = float(loss()(y, prediction))
        forms = [loss, loss()]
        if name != "CategoricalGeneralizedCrossEntropy":  # not one of Keras's names
            forms.append(name)
        for form in forms:
            values = lw.BranchLoss(form)([y, prediction])
            assert float(ops.mean(values)) == pytest.approx(expected, 1e-5, 1e-6)


@pytest.mark.parametrize("case", ARGUMENTS)
def test_the_same_number_with_arguments(case):
    name, arguments, kind, activation, shape = ARGUMENTS[case]
    if kind == "other axis":
        y = RNG.integers(0, shape[0], (6, shape[1]))
        if keras.backend.backend() != "torch":  # which alone has it in Keras
            with pytest.raises(ValueError, match="failed on tensors of the shapes"):
                both(getattr(keras.losses, name)(**arguments), activation, shape)
            return
    else:
        y = target(kind, shape)
    same(getattr(keras.losses, name)(**arguments), y, activation, shape)


@pytest.mark.parametrize("name", ["Dice", "Tversky", "dice", "tversky"])
def test_what_is_one_number_a_batch(name):
    """The cure that the message names is run above."""
    shape = (4, 4, 3)
    cure = rf"`keras.losses.{name.capitalize()}\(axis=\(1, 2, 3\)\)`"
    with pytest.raises(ValueError, match=cure):
        both(getattr(keras.losses, name), "sigmoid", shape)


def test_no_loss_is_left_out():
    losses = {
        name
        for name, loss in vars(keras.losses).items()
        if inspect.isclass(loss) and loss is not keras.losses.Loss
    }
    assert losses == {*LOSSES, "Dice", "Tversky", "CTC"}  # CTC among Keras's forms


def test_indices_of_pixels_train_as_one_hot_pixels():
    """Keras's loss has no gradient on torch, where an image has two axes."""
    classes = RNG.integers(0, 3, (6, 2, 5))
    classes[0, 0, 0] = -1
    one_hot = np.eye(3, dtype="float32")[classes]
    one_hot[0, 0, 0] = np.nan
    trained = []
    for loss, missing, y in (
        ("sparse_categorical_crossentropy", -1, classes),
        ("categorical_crossentropy", "nan", one_hot),
    ):
        keras.utils.set_random_seed(0)
        x = keras.Input((2, 5, 3))
        model = keras.Model(x, keras.layers.Dense(3, activation="softmax")(x))
        branch = lw.BranchLoss(loss, missing=missing)
        training = lw.build_training_model(model, branch)
        training.compile(keras.optimizers.SGD(1.0))
        weights = np.linspace(0, 2, 60, dtype="float32").reshape(6, 2, 5)
        inputs = np.sin(np.arange(180, dtype="float32")).reshape(6, 2, 5, 3)
        training.train_on_batch(inputs, y, sample_weight=weights)
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# On torch Keras's loss has no gradient with the axis by its number.
@pytest.mark.every_case
@pytest.mark.parametrize(
    "axis", [-1, 3] if keras.backend.backend() != "torch" else [-1]
)
def test_indices_of_pixels_in_images_of_any_size(axis):
    loss = keras.losses.SparseCategoricalCrossentropy(axis=axis)
    x = keras.Input((None, None, 3))
    model = keras.Model(x, keras.layers.Dense(3, activation="softmax")(x))
    training = lw.build_training_model(model, loss)
    training.compile("sgd")
    for shape in ((4, 2, 5), (4, 3, 1), (1, 1, 1)):
        classes = RNG.integers(0, 3, shape)
        images = RNG.normal(size=(*shape, 3)).astype("float32")
        probability = np.take_along_axis(
            np.asarray(model.predict(images, verbose=0)), classes[..., None], -1
        )
        logs = training.train_on_batch(images, classes, return_dict=True)
        training.reset_metrics()
        assert logs["loss"] == pytest.approx(-np.log(probability).mean(), rel=1e-5)


def test_class_weights_along_the_axis_of_the_loss():
    """Each position's class is found along the axis that the loss works along."""
    shape, classes = (3, 5), RNG.integers(0, 3, (6, 5))
    y = np.moveaxis(np.eye(3, dtype="float32")[classes], -1, 1)
    weight = {0: 1.0, 1: 5.0, 2: 0.5}
    per_label = np.vectorize(weight.get)(classes)
    sparse = keras.losses.SparseCategoricalCrossentropy(axis=1, from_logits=True)
    cases = [(keras.losses.CategoricalCrossentropy(axis=1, from_logits=True), y)]
    if keras.backend.backend() == "torch":
        cases.append((sparse, classes))
    for loss, true in cases:
        branch = lw.BranchLoss(loss, class_weight=weight)
        model, _ = both(loss, "linear", shape)
        training = lw.build_training_model(model, branch, lw.FixedWeights())
        training.compile("sgd")
        prediction = np.exp(model.predict(X, verbose=0))
        values = -np.log(prediction / prediction.sum(1, keepdims=True))
        values = (values * y).sum(1)
        expected = (values * per_label).mean()
        logs = training.test_on_batch(X, true, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, rel=1e-4)


def test_classes_along_another_axis_where_the_last_has_one_element():
    """Where a loss itself can't be tried: Keras on torch refuses such a prediction."""
    classes = RNG.integers(0, 3, (6, 1))
    y = np.moveaxis(np.eye(3, dtype="float32")[classes], -1, 1)
    weight = {0: 1.0, 1: 5.0, 2: 0.5}
    found = ops.convert_to_numpy(weight_of_class(y, weight, axis=1))
    np.testing.assert_array_equal(found, np.vectorize(weight.get)(classes))


def test_missing_labels_along_another_axis_are_refused():
    """Which of the last axis's vectors have a label is all that a branch can tell."""
    loss = keras.losses.CategoricalCrossentropy(axis=1, from_logits=True)
    model, _ = both(loss, "linear", (4, 4))
    with pytest.raises(ValueError, match=r"axis=1.*moveaxis\(output, 1, -1\)"):
        lw.build_training_model(model, lw.BranchLoss(loss, missing="nan"))
    # The cure.
    output = ops.moveaxis(model.output, 1, -1)
    moved = keras.Model(model.input, output)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    training = lw.build_training_model(moved, lw.BranchLoss(loss, missing="nan"))
    training.compile("sgd")
    classes = RNG.integers(0, 4, (6, 4))
    y = np.eye(4, dtype="float32")[classes]
    y[::2, 1] = np.nan
    prediction = np.exp(moved.predict(X, verbose=0))
    values = -np.log(prediction / prediction.sum(-1, keepdims=True)) * y
    logs = training.test_on_batch(X, y, return_dict=True)
    expected = np.nanmean(np.where(np.isnan(y).any(-1), np.nan, values.sum(-1)))
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)


def test_class_weights_of_fit_along_another_axis_are_refused():
    loss = keras.losses.CategoricalCrossentropy(axis=1, from_logits=True)
    model, _ = both(loss, "linear", (3, 5))
    training = lw.build_training_model(model, lw.BranchLoss(loss))
    training.compile("sgd")
    y = np.moveaxis(np.eye(3, dtype="float32")[RNG.integers(0, 3, (6, 5))], -1, 1)
    with pytest.raises(ValueError, match="must be given to its loss"):
        training.fit(X, y, class_weight={training.branches[0]: {1: 2.0}}, verbose=0)
