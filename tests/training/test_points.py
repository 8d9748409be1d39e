"""Weights for single points in training: what they see, and what sees them."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from points_nets import (
    METHODS,
    ROWS,
    X,
    Y,
    assert_same,
    losses_of_u,
    net,
    rows_of,
    state,
    weighing,
)

import lossweigh as lw
from lossweigh.comparison.twice import outline

BATCHES = [[0, 3, 7, 2], [9, 1, 4], [5, 5, 3, 8], list(range(ROWS))]
WEIGHTED = {
    "default": (lambda: None, lambda: None),
    "LossWeighter": (lw.LossWeighter, lambda: None),
    "FAMO": (lw.FAMO, lambda: None),
    "UPGrad": (lw.FixedWeights, lw.UPGrad),
    "ConFIG": (lw.Uncertainty, lambda: lw.ConFIG(level="parameters")),
    # It is told the losses.
    "MGDA": (lw.FixedWeights, lambda: lw.MGDA(normalization="loss")),
}
CASES = [("attention", name) for name in WEIGHTED]
CASES += [(name, "default") for name in METHODS if name != "attention"]


@pytest.mark.smoke
@pytest.mark.parametrize(("method", "weighted"), CASES)
def test_steps_are_those_with_the_weights_as_sample_weights(method, weighted):
    """Weighter, balancer and trunk get the loss that a loop in NumPy has weighed."""
    weighter, balancer = WEIGHTED[weighted]
    ours = weighing(method, weighter(), balancer())
    loop = METHODS[method][1](ROWS)
    theirs = weighing(None, weighter(), balancer(), keras.models.clone_model(net()))
    theirs.prediction_model.set_weights(ours.prediction_model.get_weights())
    for rows in BATCHES:
        weights = loop.step(losses_of_u(ours)[rows], np.array(rows))
        x, y = rows_of(rows)
        ours.train_on_batch(x, y)
        theirs.train_on_batch(X[rows], y, sample_weight={"u": weights})
        assert_same(
            ours.prediction_model.get_weights(),
            theirs.prediction_model.get_weights(),
            atol=1e-5,
        )
    np.testing.assert_allclose(
        list(ours.loss_weights.values()), list(theirs.loss_weights.values()), rtol=1e-3
    )
    kept = getattr(ours.point_weights["u"], METHODS[method][2])
    np.testing.assert_allclose(ops.convert_to_numpy(kept), loop.state, rtol=1e-4)


def at_rest(**arguments):
    """Weights of points that ascend once an epoch, while the model stays as it is."""
    points = lw.points.SelfAdaptive(ROWS, optimizer="sgd", learning_rate=0.1)
    return weighing(points, rate=0.0, **arguments)


def after_an_epoch(training, rows=ROWS, batch_size=5):
    """The parameters of `at_rest` that were 1, if each of these rows came once."""
    parameters = np.ones(ROWS)
    parameters[:rows] += 0.1 * 2 * losses_of_u(training)[:rows] / batch_size
    return [parameters]


@pytest.mark.compiled
@pytest.mark.smoke
def test_arrays_get_an_index_that_is_shuffled_with_them():
    training = at_rest()
    history = training.fit(X, Y, batch_size=5, verbose=0).history
    assert_same(state(training), after_an_epoch(training), rtol=1e-5)
    assert history["u_loss"] == pytest.approx([losses_of_u(training).mean()])


def data_sets():
    """Each kind, of two batches whose rows aren't in order."""
    import tensorflow as tf
    import torch

    order = np.random.default_rng(0).permutation(ROWS)
    x, y = rows_of(order)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return rows_of(order[5 * index : 5 * index + 5])

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return ROWS

        def __getitem__(self, index):
            return keras.tree.map_structure(lambda array: array[index], (x, y))

    return {
        "PyDataset": Batches(),
        "tf.data": tf.data.Dataset.from_tensor_slices((x, y)).batch(5),
        "generator": (Batches()[i] for i in (0, 1)),
        "DataLoader": torch.utils.data.DataLoader(Rows(), 5),
    }


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["PyDataset", "tf.data", "generator", "DataLoader"])
def test_data_sets_yield_the_index(kind):
    training = at_rest()
    training.fit(data_sets()[kind], steps_per_epoch=2, shuffle=False, verbose=0)
    assert_same(state(training), after_an_epoch(training), rtol=1e-5)


@pytest.mark.parametrize("kind", ["int64", "column", "tensor", "series", "list"])
def test_kinds_of_an_index(kind):
    order = np.random.default_rng(0).permutation(ROWS)
    x, y = rows_of(order)
    index = x["u_index"]
    if kind == "series":
        import pandas as pd

        index = pd.Series(index)
    elif kind == "tensor":
        index = ops.convert_to_tensor(index)
    else:
        index = {
            "int64": index.astype("int64"),
            "column": index[:, None],
            "list": index.tolist(),
        }[kind]
    training = at_rest()
    training.fit({**x, "u_index": index}, y, batch_size=5, verbose=0)
    assert_same(state(training), after_an_epoch(training), rtol=1e-5)


def test_all_inputs_by_name():
    """`x` may hold the targets too, and the index beside them."""
    x, y = rows_of(np.arange(ROWS)[::-1])
    training = at_rest()
    named = {**x, "u_target": y["u"], "v_target": y["v"]}
    training.fit(named, batch_size=5, verbose=0)
    training.fit([X, Y["u"], Y["v"]], np.zeros(ROWS), epochs=0)
    assert_same(state(training), after_an_epoch(training), rtol=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("how", ["data", "split", "split, index", "data set"])
def test_validation_weighs_and_moves_nothing(how):
    points = lw.points.SelfAdaptive(8, optimizer="sgd", learning_rate=0.1, initial=3.0)
    training = weighing(points, lw.FixedWeights(), rate=0.0)
    rows, last = np.arange(8), np.arange(8, ROWS)
    arguments = {"x": X[:8], "y": rows_of(rows)[1], "batch_size": 4}
    x, y = rows_of(last)
    if how == "data":
        arguments["validation_data"] = (X[last], y)
    elif how == "data set":  # with an index that is no point
        arguments["validation_data"] = keras_batches((x, y))
    else:
        index = np.append(rows, [99, 99])  # of the split they are no points either
        x = {"x": X, "u_index": index} if how == "split, index" else X
        arguments.update(x=x, y=Y, validation_split=0.2)
    logs = training.fit(**arguments, verbose=0).history
    losses = losses_of_u(training)
    expected = 3 + 0.1 * 2 * 3 * losses[:8] / 4
    assert_same(state(training), [expected], rtol=1e-5)
    assert logs["val_u_loss"] == pytest.approx([losses[8:].mean()])
    total = logs["val_u_loss"][0] + logs["val_v_loss"][0]
    assert logs["val_loss"] == pytest.approx([total])
    # Of the training, `loss` is weighed and the log of the branch isn't.
    assert logs["u_loss"] == pytest.approx([losses[:8].mean()])
    total = 9 * logs["u_loss"][0] + logs["v_loss"][0]
    assert logs["loss"] == pytest.approx([total])


def keras_batches(*batches):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index]

    return Batches()


def test_rows_that_do_not_count_move_nothing():
    """Without a label, with the weight 0, of a class that weighs nothing."""
    x = keras.Input((3,), name="x")
    model = keras.Model(x, layers.Dense(2, activation="softmax", name="a")(x))
    points = lw.points.SelfAdaptive(ROWS, optimizer="sgd", learning_rate=0.1)
    loss = lw.BranchLoss(
        "sparse_categorical_crossentropy", missing=-1, point_weights=points
    )
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    y = np.array([0, 1, 1, -1, 0, 1, 2, 0, 1, 1]) % 2
    y[3] = -1
    weights = np.ones(ROWS)
    weights[5] = 0
    training.fit(
        X, y, sample_weight=weights, class_weight={0: 0.0, 1: 3.0}, batch_size=ROWS
    )
    predicted = model.predict(X, verbose=0)
    losses = np.where((y == 1) & (weights > 0), -3 * np.log(predicted[:, 1]), 0)
    expected = 1 + 0.1 * 2 * losses / (losses > 0).sum()
    moved = ops.convert_to_numpy(points.parameters)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_padded_rows_of_a_sequence():
    """A row's loss grows with its steps; one that is all padding doesn't count."""
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    hidden = layers.Embedding(5, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.Dense(1, name="a")(hidden))
    points = lw.points.SelfAdaptive(3, optimizer="sgd", learning_rate=0.1)
    loss = lw.BranchLoss("mse", point_weights=points)
    training = lw.build_training_model(model, loss, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    x = np.array([[1, 2, 3, 4], [2, 4, 0, 0], [0, 0, 0, 0]])
    y = np.random.default_rng(0).normal(size=(3, 4, 1)).astype("float32")
    training.fit(x, y, verbose=0)
    squares = ((model.predict(x, verbose=0) - y) ** 2)[..., 0] * (x != 0)
    # The mean over the batch's steps, of which row i has a part.
    expected = 1 + 0.1 * 2 * squares.sum(axis=1) / 6
    moved = ops.convert_to_numpy(points.parameters)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_branches_with_points_of_their_own():
    """One has a state for each row, the other one for each of three patients."""
    make = lambda number: lw.points.SelfAdaptive(  # noqa: E731
        number, optimizer="sgd", learning_rate=0.1
    )
    rows, patients = make(ROWS), make(3)
    losses = {
        "v": lw.TargetFreeLoss("mse", of=["v", "x"], point_weights=patients),
        "u": lw.BranchLoss("mse", point_weights=rows),
    }
    x = keras.Input((2,), name="x")
    outputs = {name: layers.Dense(k, name=name)(x) for name, k in (("u", 1), ("v", 2))}
    model = keras.Model(x, outputs)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile(keras.optimizers.SGD(0.0))
    patient = np.arange(ROWS) % 3
    training.fit(
        {"x": X[:, :2], "v_index": patient}, Y["u"], batch_size=ROWS, verbose=0
    )
    predicted = model.predict(X[:, :2], verbose=0)
    of_rows = ((predicted["u"] - Y["u"]) ** 2).mean(axis=1)
    of_v = ((predicted["v"] - X[:, :2]) ** 2).mean(axis=1)
    of_patients = np.array([of_v[patient == k].sum() for k in range(3)])
    for points, losses in ((rows, of_rows), (patients, of_patients)):
        moved = ops.convert_to_numpy(points.parameters)
        np.testing.assert_allclose(moved, 1 + 0.1 * 2 * losses / ROWS, rtol=1e-5)
    assert list(training.point_weights) == ["v", "u"]
    assert training.point_weights["u"] is rows


POLICIES = ["mixed_bfloat16"]
if keras.backend.backend() != "jax":  # which has no float64 unless a process begins so
    POLICIES.append("float64")


@pytest.mark.parametrize("policy", POLICIES)
def test_under_another_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        training = at_rest()
        training.fit(X, Y, batch_size=5, verbose=0)
        tolerance = 0.02 if "mixed" in policy else 1e-5
        assert_same(state(training), after_an_epoch(training), rtol=tolerance)
        assert all(v.dtype == "float32" for v in training.point_weights["u"].variables)
    finally:
        keras.config.set_dtype_policy(before)


def test_inspect_and_suggest_see_the_loss_without_these_weights():
    points = lw.points.SelfAdaptive(ROWS, initial=5.0)
    ours, theirs = weighing(points), weighing(None)
    theirs.prediction_model.set_weights(ours.prediction_model.get_weights())
    before = ours.get_weights()
    for x, y in ((X[:6], rows_of(np.arange(6))[1]), (keras_batches((X, Y)), None)):
        seen, expected = (t.inspect(x, y).to_dict() for t in (ours, theirs))
        assert seen["loss"] == pytest.approx(expected["loss"])
        assert seen["gradient_norm"] == pytest.approx(expected["gradient_norm"])
    suggestions = [lw.suggest(t, X, Y, steps=3) for t in (ours, theirs)]
    one, other = (s.inspection.to_dict() for s in suggestions)
    assert one["loss"] == pytest.approx(other["loss"])
    assert_same(ours.get_weights(), before)
    # And then it weighs again.
    ours.train_on_batch(X, Y)
    assert (state(ours)[0] != 5).any()


def test_a_branch_that_has_stopped_moves_no_point():
    training = weighing("adam", lw.FixedWeights())
    training.fit(X, Y, verbose=0)
    before = state(training)
    training.weighter.stop("u")
    training.fit(X, Y, verbose=0)
    assert_same(state(training), before)


def test_weights_that_are_not_trained_stay():
    points = lw.points.SelfAdaptive(ROWS, initial=3.0)
    points.trainable = False
    training = weighing(points, lw.FixedWeights())
    losses = losses_of_u(training).mean()
    logs = training.train_on_batch(X, Y, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(9 * losses + float(logs["v_loss"]))
    np.testing.assert_array_equal(ops.convert_to_numpy(points.loss_weights), 9)


@pytest.mark.once
def test_a_comparison_tells_methods_apart():
    every = [lw.points.ResidualAttention(ROWS, eta=eta) for eta in (0.1, 0.1, 0.2)]
    one, same, other = (outline(weighing(points))["details"] for points in every)
    assert one == same != other


def test_comparison_trains_with_them():
    seen = []

    class Seen(lw.points.ResidualAttention):
        def weigh(self, seen_losses):
            seen.append(self.num_points)
            return super().weigh(seen_losses)

    def build():
        return net(), {"u": lw.BranchLoss("mse", point_weights=Seen(6)), "v": "mse"}

    parts = {"train": slice(6), "validation": slice(6, 8), "test": slice(8, None)}
    lw.compare(
        build,
        {
            part: (X[rows], {k: v[rows] for k, v in Y.items()})
            for part, rows in parts.items()
        },
        {"equal": lw.FixedWeights()},
        metric={"u": "mae", "v": "mae"},
        learning_rates=[0.01],
        seeds=2,
        budget=1,
        progress=False,
    )
    assert seen
