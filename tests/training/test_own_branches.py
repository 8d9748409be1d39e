"""Branches that aren't one output's loss against its own target."""

import functools

import keras
import numpy as np
import pytest
from balanced_nets import Uneven, weights_of
from keras import layers, ops

import lossweigh as lw

ROWS, BATCH = 12, 4


@keras.saving.register_keras_serializable(package="tests")
def absolute(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable(package="tests")
def hinge(right, wrong):
    return ops.maximum(0.0, 0.3 + wrong[:, 0] - right[:, 0])


@keras.saving.register_keras_serializable(package="tests")
def gap(y_true, left, right):
    return ops.square(ops.sum(left, axis=-1) - ops.sum(right, axis=-1) - y_true)


@keras.saving.register_keras_serializable(package="tests")
def size(features):
    return ops.sum(ops.square(features), axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class Offset(layers.Layer):
    """A loss with a weight of its own."""

    def build(self, y_true_shape, y_pred_shape):
        self.shift = self.add_weight(shape=(y_pred_shape[-1],), name="shift")

    def call(self, y_true, y_pred, valid=None):
        return ops.mean(ops.square(y_true - y_pred - self.shift), axis=-1)


def net(*names):
    """A model with these outputs, or all."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(6, activation="tanh", name="hidden")(x)
    demand = layers.Dense(3, name="demand")(hidden)
    label = layers.Dense(4, activation="softmax", name="label")(hidden)
    right = layers.Dense(1, name="right")(hidden)
    wrong = layers.Dense(1, name="wrong")(hidden)
    decoded = layers.Dense(4, name="decoded")(hidden)
    outputs = {
        "demand": demand,
        "label": label,
        "right": right,
        "wrong": wrong,
        "decoded": decoded,
        "features": hidden,
    }
    return keras.Model(x, {name: outputs[name] for name in names or outputs})


def branches():
    """One of each kind."""
    return {
        "demand": "mse",
        "shape": lw.BranchLoss(absolute, of="demand"),
        "label": "sparse_categorical_crossentropy",
        "rank": lw.TargetFreeLoss(hinge, of=["right", "wrong"]),
        "features": lw.TargetFreeLoss(size),
        "decoding": lw.TargetFreeLoss("mse", of=["x", "decoded"]),
        "gap": lw.BranchLoss(gap, of=["demand", "label"]),
        "shifted": lw.BranchLoss(Offset(), of="decoded", target="code"),
    }


def data(rows=ROWS):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 4)).astype("float32")
    y = {
        "demand": rng.normal(size=(rows, 3)).astype("float32"),
        "label": rng.integers(0, 4, rows),
        "gap": rng.normal(size=rows).astype("float32"),
        "code": rng.normal(size=(rows, 4)).astype("float32"),
    }
    return x, y


def by_hand(prediction, x, y, shift):
    """Each branch's loss of each sample, in NumPy."""
    out = {
        key: np.asarray(value)
        for key, value in prediction.predict(x, verbose=0).items()
    }
    chosen = out["label"][np.arange(len(x)), y["label"]]
    sums = out["demand"].sum(-1) - out["label"].sum(-1)
    return {
        "demand": np.mean((y["demand"] - out["demand"]) ** 2, -1),
        "shape": np.mean(np.abs(y["demand"] - out["demand"]), -1),
        "label": -np.log(chosen),
        "rank": np.maximum(0, 0.3 + out["wrong"] - out["right"])[:, 0],
        "features": np.sum(out["features"] ** 2, -1),
        "decoding": np.mean((x - out["decoded"]) ** 2, -1),
        "gap": (sums - y["gap"]) ** 2,
        "shifted": np.mean((y["code"] - out["decoded"] - shift) ** 2, -1),
    }


def build(balancer=None, weighter=None):
    training = lw.build_training_model(
        net(), branches(), weighter or lw.FixedWeights(), balancer
    )
    training.compile("sgd", metrics={"demand": ["mae"], "label": ["accuracy"]})
    return training


def shift_of(training):
    return keras.ops.convert_to_numpy(training.branch_losses["shifted"].loss.shift)


@pytest.mark.smoke
@pytest.mark.parametrize("balancer", [None, lw.UPGrad()], ids=["plain", "balanced"])
def test_every_kind_of_branch_against_numpy(balancer):
    training, (x, y) = build(balancer), data()
    weights = {
        "demand": np.linspace(0.5, 2, ROWS),  # of both branches of this target
        "shape": np.linspace(3, 1, ROWS),  # but this one has its own
        "rank": np.linspace(0, 1, ROWS),
        "gap": np.linspace(2, 0, ROWS),
    }
    logs = training.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    expected = by_hand(training.prediction_model, x, y, shift_of(training))
    assert list(training.branches) == list(expected)
    for name, values in expected.items():
        weighted = np.mean(values * weights.get(name, 1.0))
        np.testing.assert_allclose(logs[f"{name}_loss"], weighted, rtol=1e-5)
    predicted = training.predict(x, verbose=0)
    mae = np.mean(np.abs(predicted["demand"] - y["demand"]))
    np.testing.assert_allclose(logs["demand_mae"], mae, rtol=1e-5)
    accuracy = np.mean(np.argmax(predicted["label"], -1) == y["label"])
    np.testing.assert_allclose(logs["label_accuracy"], accuracy, rtol=1e-5)


@pytest.mark.compiled
def test_training_is_that_of_one_loss_written_out():
    """Two branches of an output against a Keras model with their sum as its loss."""
    prediction, (x, y) = net("demand"), data()
    plain = keras.Model(prediction.inputs, prediction.output["demand"])
    before = prediction.get_weights()
    training = lw.build_training_model(
        prediction,
        {"demand": "mse", "shape": lw.BranchLoss(absolute, of="demand")},
        lw.FixedWeights([0.3, 2.0]),
    )
    training.compile(keras.optimizers.SGD(0.1))
    training.fit(x, {"demand": y["demand"]}, batch_size=BATCH, shuffle=False, verbose=0)
    after = prediction.get_weights()
    prediction.set_weights(before)

    def both(y_true, y_pred):
        squared = keras.losses.mean_squared_error(y_true, y_pred)
        return 0.3 * squared + 2.0 * absolute(y_true, y_pred)

    plain.compile(keras.optimizers.SGD(0.1), loss=both)
    plain.fit(x, y["demand"], batch_size=BATCH, shuffle=False, verbose=0)
    for one, other in zip(after, prediction.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


RATE = 0.5


@functools.cache
def gradients_alone():
    """What the trunk would lose by each branch alone."""
    x, y = data(4)
    names = list(branches())
    alone = []
    for index in range(len(names)):
        training = build(
            weighter=lw.FixedWeights([float(i == index) for i in range(len(names))])
        )
        training.compile(keras.optimizers.SGD(RATE))
        before = training.prediction_model.get_layer("hidden").get_weights()
        training.train_on_batch(x, y)
        after = training.prediction_model.get_layer("hidden").get_weights()
        alone.append([(b - a) / RATE for a, b in zip(after, before, strict=True)])
    return alone


@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_a_balancer_weighs_each_branch(level):
    """The trunk's gradient is the weighted sum of the branches', each taken alone."""
    (x, y), alone = data(4), gradients_alone()
    training = build(Uneven(level=level))
    training.compile(keras.optimizers.SGD(RATE))
    before = training.prediction_model.get_layer("hidden").get_weights()
    training.train_on_batch(x, y)
    after = training.prediction_model.get_layer("hidden").get_weights()
    weights = weights_of(training)
    assert len(set(np.round(weights, 4))) == len(alone)
    for number, (a, b) in enumerate(zip(after, before, strict=True)):
        expected = sum(w * g[number] for w, g in zip(weights, alone, strict=True))
        np.testing.assert_allclose((b - a) / RATE, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("balancer", [None, "MGDA"])
def test_saved_and_resumed(balancer, tmp_path):
    training, (x, y) = build(balancer and getattr(lw, balancer)()), data()
    training.fit(x, y, batch_size=BATCH, verbose=0)
    training.save(tmp_path / "training.keras")
    again = keras.models.load_model(tmp_path / "training.keras")
    np.testing.assert_array_equal(shift_of(again), shift_of(training))
    assert np.any(shift_of(training) != 0)
    kwargs = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    one = training.fit(x, y, **kwargs).history
    other = again.fit(x, y, **kwargs).history
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_allclose(value, other[key], rtol=1e-6, err_msg=key)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return keras.tree.map_structure(lambda a: a[rows], self.arrays)


def test_no_branch_has_a_target():
    losses = {
        "rank": lw.TargetFreeLoss(hinge, of=["right", "wrong"]),
        "decoding": lw.TargetFreeLoss("mse", of=["x", "decoded"]),
    }
    x, _ = data()
    seen = []
    for source in ("x", "dummy", "stream", "weights"):
        losses = {
            name: lw.TargetFreeLoss(b.loss, of=b.of) for name, b in losses.items()
        }
        training = lw.build_training_model(
            net("right", "wrong", "decoded"), losses, lw.FixedWeights()
        )
        training.compile("sgd")
        kwargs = {"verbose": 0, "shuffle": False}
        if source == "x":
            history = training.fit(x, batch_size=BATCH, **kwargs)
        elif source == "dummy":
            history = training.fit(x, np.zeros(ROWS), batch_size=BATCH, **kwargs)
        elif source == "stream":
            history = training.fit(Batches(x), **kwargs)
        else:
            weight = {"rank": np.ones(ROWS)}
            history = training.fit(
                x,
                batch_size=BATCH,
                sample_weight=weight,
                validation_data=(x,),
                **kwargs,
            )
        seen.append([history.history["rank_loss"], history.history["decoding_loss"]])
    for other in seen[1:]:
        np.testing.assert_allclose(seen[0], other, rtol=1e-6)


def test_class_weights_of_a_target_are_all_its_branches():
    prediction, (x, y) = net("label"), data()
    training = lw.build_training_model(
        prediction,
        {
            "label": "sparse_categorical_crossentropy",
            "again": lw.BranchLoss("sparse_categorical_crossentropy", of="label"),
        },
        lw.FixedWeights(),
    )
    training.compile(keras.optimizers.SGD(0.0))
    labels = {"label": y["label"]}
    weight = {0: 3.0, 2: 0.5}
    plain = np.array([weight.get(int(c), 1.0) for c in y["label"]])
    classes = prediction.predict(x, verbose=0)["label"]
    expected = -np.log(classes[np.arange(ROWS), y["label"]])
    history = training.fit(x, labels, class_weight={"label": weight}, verbose=0).history
    for name in ("label_loss", "again_loss"):
        np.testing.assert_allclose(
            history[name][0], np.mean(expected * plain), rtol=1e-5
        )
    history = training.fit(x, labels, class_weight={"again": weight}, verbose=0).history
    np.testing.assert_allclose(history["label_loss"][0], np.mean(expected), rtol=1e-5)


REFUSED = {
    "unknown": (
        {"rank": lw.TargetFreeLoss(hinge, of=["right", "left"])},
        ValueError,
        r"`losses\['rank'\].of` may only have the names .*unknown: \['left'\]",
    ),
    "a loss of nothing": (
        {"rank": "mse"},
        ValueError,
        r"`losses` may only have the names .*unknown: \['rank'\]",
    ),
    "only an input": (
        {"x_size": lw.TargetFreeLoss(size, of="x")},
        ValueError,
        "must look at one or more of the outputs",
    ),
    "another output's name": (
        {"label": lw.TargetFreeLoss(size, of="features")},
        ValueError,
        "has the name of an output and must be of that output",
    ),
    "targets of two shapes": (
        {
            "label": "sparse_categorical_crossentropy",
            "other": lw.BranchLoss("mse", of="features", target="label"),
        },
        ValueError,
        r"'label' and 'other' share the target 'label' and must take it in one shape",
    ),
    "a total's name": (
        {"unweighted": lw.TargetFreeLoss(size, of="features")},
        ValueError,
        "`losses` must not have a branch named 'unweighted'",
    ),
    "an unknown mask": (
        {"demand": lw.BranchLoss("mse", mask="lengths")},
        ValueError,
        r"`losses\['demand'\].mask` may only have the names",
    ),
    "a scalar": (
        {"features": lw.TargetFreeLoss(ops.mean)},
        ValueError,
        "returned a scalar",
    ),
    "a mask for no steps": (
        {"demand": lw.BranchLoss("mse", of="demand", mask="x")},
        ValueError,
        "must have the shape",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    losses, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        lw.build_training_model(net(), losses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"of": 3.5}, "`of` must be the name of an output or input"),
        ({"of": []}, "`of` must be the name of an output or input"),
        ({"mask": True}, "`mask` must be None"),
        ({"target": 3.5}, "`target` must be the name"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(TypeError, match=message):
        lw.BranchLoss("mse", **arguments)
