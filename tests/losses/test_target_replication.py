"""TargetReplication against a loop over sequences and steps."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw
from lossweigh.losses.target_replication import TargetReplication

B, T, C = 6, 5, 3
LOSSES = ["sparse_categorical_crossentropy", "categorical_crossentropy", "mse"]


def draw(loss, seed=0, rows=B):
    rng = np.random.default_rng(seed)
    p = np.exp(rng.normal(size=(rows, T, C)))
    p = (p / p.sum(-1, keepdims=True)).astype("float32")
    y = rng.integers(0, C, rows)
    return (y if loss.startswith("sparse") else np.eye(C, dtype="float32")[y]), p


def masks(kind, rows=B):
    rng = np.random.default_rng(3)
    lengths = np.r_[0, 1, 2, T, rng.integers(1, T + 1, rows)][:rows]
    right = np.arange(T) < lengths[:, None]
    if kind == "holes":
        right[3, [1, 3]] = False
    return right[:, ::-1].copy() if kind == "left" else right


def step_loss(loss, y, p):
    if loss == "mse":
        return np.mean((y - p) ** 2)
    return -np.log(p[int(y)] if np.ndim(y) == 0 else p[int(np.argmax(y))])


def by_hand(loss, y, p, alpha, real=None, weight=None):
    """Each sequence's loss, weighted."""
    real = np.ones((len(p), T), bool) if real is None else real
    weight = np.ones((len(p), T)) if weight is None else weight
    values = []
    for i in range(len(p)):
        steps = [t for t in range(T) if real[i, t]]
        each = [weight[i, t] * step_loss(loss, y[i], p[i, t]) for t in steps]
        if not each:
            values.append(0.0)
        elif len(each) == 1:
            values.append(each[0])
        else:
            values.append(alpha * np.mean(each[:-1]) + (1 - alpha) * each[-1])
    return np.array(values)


@pytest.mark.smoke
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [None, "right", "left", "holes"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_against_a_loop(loss, kind, alpha):
    y, p = draw(loss)
    real = None if kind is None else masks(kind)
    shown = p.copy()
    if real is not None:
        shown[~real] = np.nan
    replicated = TargetReplication(loss, alpha=alpha)
    for weight in (None, np.arange(B) / 2.0, np.random.default_rng(1).random((B, T))):
        wide = weight
        if weight is not None:
            weight = weight.astype("float32")
            wide = weight if weight.ndim == 2 else weight[:, None] * np.ones(T)
        got = replicated.values(
            ops.convert_to_tensor(y),
            ops.convert_to_tensor(shown),
            valid=None if real is None else ops.convert_to_tensor(real),
            weight=None if weight is None else ops.convert_to_tensor(weight),
        )
        expected = by_hand(loss, y, p, alpha, real, wide)
        np.testing.assert_allclose(
            ops.convert_to_numpy(got), expected, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 1: 4.0}])
@pytest.mark.parametrize("loss", LOSSES)
def test_in_a_branch(loss, class_weight):
    y, p = draw(loss)
    real = masks("left")
    weight = np.linspace(0, 2, B).astype("float32")
    layer = lw.BranchLoss(TargetReplication(loss), class_weight=class_weight)
    got = layer([y, p, weight], mask=[None, ops.convert_to_tensor(real), None])
    classes = y if y.ndim == 1 else y.argmax(-1)
    of_class = [(class_weight or {}).get(int(c), 1.0) for c in classes]
    each = by_hand(loss, y, p, 0.5, real) * weight * of_class
    counted = real.any(axis=1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(got), each * B / counted.sum(), rtol=1e-5
    )
    assert layer.task_type == ("regression" if loss == "mse" else "classification")


def lstm(x):
    return layers.LSTM(4, return_sequences=True, use_cudnn=False)(x)


def gru(x):
    return layers.GRU(4, return_sequences=True, use_cudnn=False)(x)


def bidirectional(x):
    return layers.Bidirectional(layers.LSTM(3, return_sequences=True, use_cudnn=False))(
        x
    )


@pytest.mark.parametrize("recurrent", [lstm, gru, bidirectional])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_recurrent_classifier(recurrent, side):
    real = masks(side)[1:]
    rng = np.random.default_rng(2)
    if recurrent is gru:
        x = np.where(real, rng.integers(1, 7, real.shape), 0)
        inputs = keras.Input((T,), dtype="int32", name="x")
        hidden = layers.Embedding(7, 4, mask_zero=True)(inputs)
    else:
        x = (rng.normal(size=(*real.shape, 2)) * real[..., None]).astype("float32")
        inputs = keras.Input((T, 2), name="x")
        hidden = layers.Masking()(inputs)
    out = layers.Dense(C, activation="softmax", name="label")(recurrent(hidden))
    model = keras.Model(inputs, out)
    y = rng.integers(0, C, len(x))
    loss = TargetReplication("sparse_categorical_crossentropy", alpha=0.4)
    training = lw.build_training_model(model, loss)
    kinds = [
        lw.metrics.LastStep("accuracy"),
        lw.metrics.LastStep("sparse_categorical_crossentropy"),
    ]
    training.compile("sgd", metrics=kinds)
    logs = training.fit(x, y, validation_data=(x, y), verbose=0).history
    p = model.predict(x, verbose=0)
    name = "sparse_categorical_crossentropy"
    expected = by_hand(name, y, p, 0.4, real)
    np.testing.assert_allclose(logs["val_label_loss"][0], expected.mean(), rtol=1e-5)
    primary = by_hand(name, y, p, 0.0, real).mean()
    key = f"val_last_step_{name}"
    np.testing.assert_allclose(logs[key][0], primary, rtol=1e-5)
    last = [np.flatnonzero(row)[-1] for row in real]
    right = p[np.arange(len(x)), last].argmax(-1) == y
    np.testing.assert_allclose(
        logs["val_last_step_accuracy"][0], right.mean(), rtol=1e-6
    )


def test_a_plain_keras_model():
    """`compile(loss=...)` of a model that isn't a training model."""
    real = masks("right")[1:]
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(*real.shape, 2)) * real[..., None]).astype("float32")
    inputs = keras.Input((T, 2))
    out = layers.Dense(C, activation="softmax")(lstm(layers.Masking()(inputs)))
    model = keras.Model(inputs, out)
    y = rng.integers(0, C, len(x))
    name = "sparse_categorical_crossentropy"
    model.compile(
        "sgd", TargetReplication(name), metrics=[lw.metrics.LastStep("accuracy")]
    )
    loss, accuracy = model.evaluate(x, y, verbose=0)
    p = model.predict(x, verbose=0)
    np.testing.assert_allclose(loss, by_hand(name, y, p, 0.5, real).mean(), rtol=1e-5)
    last = [np.flatnonzero(row)[-1] for row in real]
    right = p[np.arange(len(x)), last].argmax(-1) == y
    np.testing.assert_allclose(accuracy, right.mean(), rtol=1e-6)
    weight = np.arange(len(x)).astype("float32")
    loss, *_ = model.evaluate(x, y, sample_weight=weight, verbose=0)
    expected = (by_hand(name, y, p, 0.5, real) * weight).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_saved():
    for loss in ("mse", keras.losses.Huber(delta=0.3)):
        config = keras.saving.serialize_keras_object(TargetReplication(loss, alpha=0.2))
        again = keras.saving.deserialize_keras_object(config)
        y, p = draw("mse")
        expected = TargetReplication(loss, alpha=0.2)(y, p)
        np.testing.assert_allclose(float(again(y, p)), float(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "mse", "alpha": 1.1}, ValueError, "`alpha` must be between 0 and 1"),
        ({"loss": "mse", "alpha": "x"}, TypeError, "`alpha` must be a number"),
        ({"loss": "mess"}, ValueError, "must be the name of a Keras loss"),
        ({"loss": lambda y, p: p}, ValueError, "must not be a Python lambda"),
        ({"loss": "mse", "reduction": "max"}, ValueError, "`reduction` must be one of"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        TargetReplication(**arguments)


def test_shapes():
    y, p = draw("sparse")
    loss = TargetReplication("sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="must hold the target once a sequence"):
        loss(np.zeros((B, T, C)), p)
    with pytest.raises(ValueError, match="output with time steps"):
        loss(y, p[:, 0])
    with pytest.raises(ValueError, match="`loss` must give one number a step"):
        TargetReplication(ops.subtract)(np.eye(C)[y].astype("float32"), p)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="label")(inputs))
    with pytest.raises(ValueError, match="return_sequences=True"):
        lw.build_training_model(model, loss)


@pytest.mark.parametrize("metric", ["accuracy", keras.metrics.CategoricalAccuracy()])
def test_a_metric_that_compares_each_step_is_refused(metric):
    inputs = keras.Input((T, 2), name="x")
    out = layers.Dense(C, activation="softmax", name="label")(lstm(inputs))
    training = lw.build_training_model(
        keras.Model(inputs, out), TargetReplication("categorical_crossentropy")
    )
    with pytest.raises(ValueError, match=r"'label' must be .*LastStep\(.*\)`"):
        training.compile("sgd", metrics=[metric])


@pytest.mark.parametrize("classes", [C, T])
def test_a_missing_label_is_the_whole_sequence_s(classes):
    rng = np.random.default_rng(4)
    y = np.eye(classes, dtype="float32")[rng.integers(0, classes, B)]
    p = rng.random((B, T, classes)).astype("float32")
    labelled = np.arange(B) % 3 > 0
    y[0], y[3, 0] = np.nan, np.nan
    layer = lw.BranchLoss(TargetReplication("mse"), missing="nan")
    got = ops.convert_to_numpy(layer([y, p]))
    each = by_hand("mse", y, p, 0.5)
    expected = np.where(labelled, each, 0.0) * B / labelled.sum()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_no_steps_at_all():
    y, p = draw("mse")
    value = TargetReplication("mse")(y, p[:, :0])
    assert float(value) == 0.0
