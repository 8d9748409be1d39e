"""`compile(metrics=...)` logs what Keras does for the prediction model alone."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import FIXED, LOSSES, arrays, copy_of, sample_weights, two_heads

import lossweigh as lw

X, Y = arrays()
WEIGHTS = sample_weights()
BATCH = 4  # the last of ten rows is a partial one


def bias(y_true, y_pred):
    return ops.mean(y_pred - y_true, axis=-1)


class Worst(keras.metrics.Metric):
    """A metric of the user's own, which creates its state late."""

    def __init__(self, name="worst"):
        super().__init__(name=name)
        self.largest = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.largest is None:
            self.largest = self.add_variable((), "zeros", name="largest")
        error = ops.max(ops.abs(ops.cast(y_true, y_pred.dtype) - y_pred))
        self.largest.assign(ops.maximum(self.largest, error))

    def result(self):
        return ops.convert_to_tensor(self.largest)

    def reset_state(self):
        if self.largest is not None:
            self.largest.assign(0.0)


def metrics_of(case):
    """Arguments of `compile`, with metrics of their own each time."""
    m = keras.metrics
    return {
        "names": {"metrics": {"zeta": ["mae", "MSE"], "alpha": "acc"}},
        "exact": {"metrics": {"zeta": ["Accuracy"]}},
        "list": {"metrics": [["mae"], ["accuracy"]]},
        "short list": {"metrics": ["mae", "accuracy"]},
        "empty": {"metrics": []},
        "empty by output": {"metrics": [[], ["accuracy"]], "weighted_metrics": {}},
        "one name twice": {
            "metrics": {"zeta": [m.MeanSquaredError(name="e"), m.LogCoshError("e")]}
        },
        "in both lists": {
            "metrics": {"alpha": ["accuracy"]},
            "weighted_metrics": {"alpha": ["accuracy"], "zeta": ["mae"]},
        },
        "losses": {
            "metrics": {"zeta": [keras.losses.Huber(), keras.losses.huber]},
            "weighted_metrics": {"alpha": "sparse_categorical_crossentropy"},
        },
        "functions": {"metrics": {"zeta": [bias]}, "weighted_metrics": [bias, None]},
        "own": {"metrics": {"zeta": Worst()}, "weighted_metrics": [[Worst()], None]},
    }[case]


CASES = [
    "names",
    "exact",
    "list",
    "short list",
    "empty",
    "empty by output",
    "one name twice",
    "in both lists",
    "losses",
    "functions",
    "own",
]


def both(case, structure, **arguments):
    """A model and its training model, with the same numbers, and metrics alike."""
    model = two_heads(structure)
    training = lw.build_training_model(copy_of(model), LOSSES, lw.FixedWeights(FIXED))
    for each, losses in (
        (model, {"loss": LOSSES, "loss_weights": FIXED}),
        (training, {}),
    ):
        given = metrics_of(case)
        if structure is dict:  # no order that Keras and we could agree upon
            given = {
                name: dict(zip(LOSSES, some, strict=True))
                if isinstance(some, list) and some
                else some
                for name, some in given.items()
            }
        each.compile(keras.optimizers.SGD(0.1), **losses, **given, **arguments)
    return model, training


def of_metrics(logs):
    """The logs of metrics, without those of losses and weights."""
    names = {f"{branch}_{what}" for branch in LOSSES for what in ("loss", "weight")}
    names |= {"loss", "unweighted_loss"}
    return {
        name: np.ravel(np.asarray(value, "float64"))
        for name, value in logs.items()
        if name.removeprefix("val_") not in names
    }


def as_structure(structure, values):
    """By name or in the outputs' order: Keras takes what is built as the outputs."""
    return structure(values.values()) if structure is list else values


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5, rel=1e-5), name


@pytest.mark.parametrize(
    ("case", "structure"),
    [*((case, list) for case in CASES), ("names", dict), ("in both lists", dict)],
)
def test_the_same_metrics(case, structure):
    y = as_structure(structure, {**Y, "zeta": np.round(Y["zeta"])})
    weights = as_structure(structure, WEIGHTS)
    fifth = keras.tree.map_structure(lambda array: array[:5], y)
    models = both(case, structure)
    logs = [
        each.evaluate(X, y, BATCH, sample_weight=weights, verbose=0, return_dict=True)
        for each in models
    ]
    same(of_metrics(logs[1]), of_metrics(logs[0]))
    assert (case == "empty") == (not of_metrics(logs[0]))
    histories = [
        each.fit(
            X,
            y,
            BATCH,
            sample_weight=weights,
            shuffle=False,
            verbose=0,
            validation_data=(X[:5], fifth),
        ).history
        for each in models
    ]
    same(of_metrics(histories[1]), of_metrics(histories[0]))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return tuple(
            keras.tree.map_structure(lambda array: array[rows], part)
            for part in (X, Y, WEIGHTS)
        )


@pytest.mark.compiled
@pytest.mark.parametrize("case", ["names", "in both lists", "own"])
def test_the_same_metrics_of_a_data_set(case):
    histories = [
        each.fit(Batches(), shuffle=False, epochs=2, verbose=0).history
        for each in both(case, dict)
    ]
    same(of_metrics(histories[1]), of_metrics(histories[0]))


def test_the_results_are_listed_in_the_order_of_their_names():
    _, training = both("in both lists", list)
    logs = training.evaluate(X, Y, BATCH, verbose=0, return_dict=True)
    results = training.evaluate(X, Y, BATCH, verbose=0)
    assert dict(zip(training.metrics_names, results, strict=True)) == logs


@pytest.mark.parametrize("source", ["arrays", "batch"])
def test_an_output_without_a_loss_has_metrics(source):
    """Its target is in `y` as in Keras."""
    model = two_heads(list)
    given = {"metrics": {"zeta": ["mae"], "alpha": ["accuracy"]}}
    training = lw.build_training_model(copy_of(model), {"zeta": "mse"})
    training.compile("sgd", **given)
    model.compile("sgd", loss=["mse", None], **given)
    found, y = [], list(Y.values())
    for each in (model, training):
        if source == "arrays":
            logs = each.evaluate(X, y, BATCH, verbose=0, return_dict=True)
        else:
            logs = each.test_on_batch(X, y, return_dict=True)
        found.append({k: logs[k] for k in ("zeta_mae", "alpha_accuracy")})
    same(of_metrics(found[1]), of_metrics(found[0]))
    with pytest.raises(ValueError, match=r"missing: \['alpha'\]"):
        training.evaluate(X, {"zeta": Y["zeta"]}, verbose=0)


def compile_and_test(training, metric):
    training.compile("sgd", metrics={"zeta": [metric]})
    return training.test_on_batch(X, Y, return_dict=True)


def test_a_metric_cannot_have_the_name_of_a_loss():
    training = lw.build_training_model(two_heads(), LOSSES)
    metric = keras.metrics.MeanSquaredError(name="loss")
    with pytest.raises(ValueError, match=r"logged as 'zeta_loss'.*another one"):
        compile_and_test(training, metric)
    # The cure.
    logs = compile_and_test(training, keras.metrics.MeanSquaredError(name="error"))
    assert "zeta_error" in logs


@pytest.mark.parametrize("mask", [None, False, "tokens"])
def test_a_mask_counts_once(mask):
    """The one that is in force: Keras's, a named one or none."""
    tokens = np.array([[3, 1, 0], [2, 0, 0], [1, 4, 5]])
    inputs = keras.Input((3,), dtype="int32", name="tokens")
    hidden = layers.Embedding(6, 4, mask_zero=True)(inputs)
    score = layers.Dense(2, name="score")(hidden)
    y = np.random.default_rng(0).normal(size=(3, 3, 2)).astype("float32")
    weight = np.array([1.0, 2.0, 0.5], "float32")
    training = lw.build_training_model(
        keras.Model(inputs, score), lw.BranchLoss("mse", mask=mask)
    )
    training.compile("sgd", metrics=["mae"], weighted_metrics=["mse"])
    error = training.predict(tokens, verbose=0) - y
    real = np.ones_like(tokens) if mask is False else tokens != 0
    logs = training.test_on_batch(tokens, y, weight, return_dict=True)
    expected = np.average(abs(error).mean(-1), weights=real)
    assert logs["mae"] == pytest.approx(expected, rel=1e-5)
    expected = np.average((error**2).mean(-1), weights=real * weight[:, None])
    assert logs["mse"] == pytest.approx(expected, rel=1e-5)


# Keras's own, of its confusion matrix.
@pytest.mark.filterwarnings("ignore:You are passing weight as", "ignore:Explicitly req")
def test_a_weight_a_sample_weighs_its_pixels():
    """`MeanIoU` takes one weight a pixel, and fails on one a sample in Keras."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 5, 2)).astype("float32")
    y = rng.integers(0, 3, (4, 5, 5))
    weight = np.array([0.0, 1.0, 2.0, 1.0], "float32")
    image = keras.Input((5, 5, 2))
    pixels = layers.Conv2D(3, 1, activation="softmax", name="pixels")(image)
    training = lw.build_training_model(
        keras.Model(image, pixels), "sparse_categorical_crossentropy"
    )
    metric = keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou")
    training.compile("sgd", weighted_metrics=[metric, "accuracy"])
    logs = training.test_on_batch(x, y, weight, return_dict=True)
    prediction = training.predict(x, verbose=0).argmax(-1)
    matrix = np.zeros((3, 3))
    weights = np.broadcast_to(weight[:, None, None], y.shape)
    np.add.at(matrix, (y, prediction), weights)
    hits = np.diag(matrix)
    iou = hits / (matrix.sum(0) + matrix.sum(1) - hits)
    assert logs["iou"] == pytest.approx(iou.mean(), rel=1e-5)
    accuracy = np.average(prediction == y, weights=weights)
    assert logs["accuracy"] == pytest.approx(accuracy, rel=1e-5)


def test_metrics_of_a_target_that_is_given_once_a_sample():
    """A function of the user's own takes it; Keras's would compare the wrong things."""

    def spread(y_true, y_pred):
        return ops.max(y_pred, axis=(1, 2)) - ops.squeeze(y_true, -1)

    steps = keras.Input((4, 3))
    score = layers.Dense(1, activation="sigmoid", name="score")(steps)
    training = lw.build_training_model(
        keras.Model(steps, score), lw.losses.TargetReplication("binary_crossentropy")
    )
    for metric in ("mae", keras.metrics.AUC(), keras.metrics.mean_absolute_error):
        with pytest.raises(ValueError, match=r"once a sample.*LastStep"):
            training.compile("sgd", metrics=[metric])
    training.compile("sgd", metrics=[spread])
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    y = np.array([0, 1, 1, 0, 1], "float32")
    expected = (training.predict(x, verbose=0).max((1, 2)) - y).mean()
    logs = training.test_on_batch(x, y, return_dict=True)
    assert logs["spread"] == pytest.approx(expected, abs=1e-6)
