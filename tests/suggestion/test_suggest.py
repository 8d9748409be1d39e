"""`suggest` proposes what is right where that is known, and leaves no trace."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

ROWS = 256


def training_of(names="ab", losses="mse", **compiling):
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(16, activation="relu")(x)
    hidden = layers.Dropout(0.1)(layers.BatchNormalization()(hidden))
    model = keras.Model(x, {n: layers.Dense(1, name=n)(hidden) for n in names})
    losses = losses if isinstance(losses, dict) else dict.fromkeys(names, losses)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    training.compile(keras.optimizers.Adam(0.01), **compiling)
    return training


def draw(seed=0):
    """Rows, and the targets a and b, which look at different columns."""
    x = np.random.default_rng(seed).normal(size=(ROWS, 6)).astype("float32")
    return x, {"a": np.tanh(x[:, :1]), "b": np.tanh(x[:, 1:2])}


def variables_of(training):
    variables = [*training.variables, *training.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def test_equal_weights_where_nothing_is_amiss():
    x, y = draw()
    suggestion = lw.suggest(training_of(), x, y, steps=20)
    assert suggestion.actions == ["equal_weights"]
    norms = suggestion.inspection.gradient_norm
    ratio = max(norms.values()) / min(norms.values())
    assert suggestion.proposals[0].number == pytest.approx(ratio)
    assert f"{ratio:.3g} times" in str(suggestion)


def test_a_target_out_of_scale_is_to_be_standardised():
    x, y = draw()
    y["b"] = 173 * y["b"] + 500
    mean, std = y["b"].mean(), y["b"].std()
    training = training_of()
    suggestion = lw.suggest(training, x, y, steps=2 * ROWS // 32)
    assert suggestion.actions == ["standardise"]
    (proposal,) = suggestion.proposals
    assert proposal.branches == ("b",)
    assert proposal.number == pytest.approx(std, rel=1e-3)
    assert f"{std:.4g}" in str(suggestion)
    # The code does it, and after it there is nothing more to do.
    names = {"keras": keras, "np": np, "y": y}
    exec(proposal.code, names)
    np.testing.assert_allclose([y["b"].mean(), y["b"].std()], [0, 1], atol=0.01)
    back = ops.convert_to_numpy(names["unscale"](y["b"]))
    np.testing.assert_allclose([back.mean(), back.std()], [mean, std], rtol=1e-3)
    assert lw.suggest(training, x, y, steps=20).actions == ["equal_weights"]


def test_a_mean_far_from_zero_is_out_of_scale():
    x, y = draw()
    y["a"] = y["a"] + 50
    suggestion = lw.suggest(training_of(), x, y, steps=4)
    assert suggestion.actions == ["standardise"]
    assert suggestion.proposals[0].branches == ("a",)


def test_uneven_gradients_are_to_be_weighed():
    """Targets of one scale whose losses are not: the weights make the norms alike."""

    @keras.saving.register_keras_serializable(package="tests")
    def hundredfold(y_true, y_pred):
        return 100 * ops.mean(ops.square(y_true - y_pred), axis=-1)

    x, y = draw()
    training = training_of(losses={"a": hundredfold, "b": "mse"})
    suggestion = lw.suggest(training, x, y, steps=10)
    assert suggestion.actions == ["fixed_weights"]
    (proposal,) = suggestion.proposals
    assert proposal.branches == ("a", "b")
    assert proposal.number > 10
    names = {"lw": lw}
    exec(proposal.code, names)
    weights = names["weighter"].weights_given
    norms = suggestion.inspection.gradient_norm
    parts = [weights[branch] * norms[branch] for branch in "ab"]
    np.testing.assert_allclose(parts[0], parts[1], rtol=0.01)
    assert sum(weights.values()) == pytest.approx(2, rel=0.01)


def test_opposed_branches_are_to_be_balanced():
    x, y = draw()
    shared = keras.Input((6,), name="x")
    hidden = layers.Dense(4, activation="tanh")(shared)
    # The same numbers leave for both branches, which want the opposite of them.
    outputs = {n: layers.Activation("linear", name=n)(hidden) for n in "ab"}
    training = lw.build_training_model(
        keras.Model(shared, outputs), dict.fromkeys("ab", "mse")
    )
    training.compile("sgd")
    y = {"a": np.tile(y["a"], 4), "b": -np.tile(y["a"], 4)}
    suggestion = lw.suggest(training, x, y, steps=20)
    assert suggestion.actions == ["balancer"]
    # Ten measured steps are the fewest that prove it.
    assert lw.suggest(training, x, y, steps=18).actions == ["equal_weights"]
    (proposal,) = suggestion.proposals
    assert proposal.branches == ("a", "b")
    cosines = suggestion.inspection.cosines[:, 0, 1]
    assert proposal.number == pytest.approx(cosines.mean())
    names = {"lw": lw}
    exec(proposal.code, names)
    assert isinstance(names["balancer"], lw.Balancer)
    training.fit(x, y, verbose=0)
    assert "near an optimum" in str(lw.suggest(training, x, y, steps=20))


@pytest.mark.parametrize("balancer", [None, "representation", "parameters"])
def test_nothing_is_left(balancer):
    """The next training goes as if `suggest` had never been called."""
    x, y = draw()
    final = []
    for asks in (False, True):
        keras.utils.set_random_seed(1)
        training = training_of()
        if balancer is not None:
            training = lw.build_training_model(
                training.prediction_model,
                dict.fromkeys("ab", "mse"),
                lw.RevisedUncertainty(),
                lw.GradVac(level=balancer),
            )
            training.compile("adam")
        training.fit(x, y, verbose=0)
        if asks:
            before = variables_of(training)
            lw.suggest(training, x, y, steps=5)
            for then, now in zip(before, variables_of(training), strict=True):
                np.testing.assert_array_equal(now, then)
        training.fit(x, y, verbose=0)
        final.append(variables_of(training))
    for one, other in zip(*final, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_probe_trains_as_plain_keras_does():
    """Its last loss is that of native training with the same steps."""
    x, y = draw()
    training = training_of()
    native = keras.models.clone_model(training.prediction_model)
    for model in (native, training.prediction_model):
        for layer in model.layers:
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
    native.set_weights(training.prediction_model.get_weights())
    native.compile(keras.optimizers.Adam(0.01), loss=dict.fromkeys("ab", "mse"))
    suggestion = lw.suggest(training, x, y, steps=6, batch_size=ROWS)
    for _ in range(5):
        native.train_on_batch(x, y)
    logs = native.train_on_batch(x, y, return_dict=True)
    last = suggestion.inspection.losses[-1]
    np.testing.assert_allclose(last.sum(), logs["loss"], rtol=1e-4)


def test_data_sets_and_missing_labels():
    x, y = draw()
    y["a"][::2] = np.nan
    losses = {"a": lw.BranchLoss("mse", missing="nan"), "b": "mse"}
    training = training_of(losses=losses)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            part = slice(64 * index, 64 * index + 64)
            return x[part], {name: values[part] for name, values in y.items()}

    suggestion = lw.suggest(training, Batches(), steps=8)
    assert suggestion.steps == 8
    scale = suggestion.target_scales["a"]
    np.testing.assert_allclose(scale.mean, np.nanmean(y["a"]), rtol=1e-5)
    np.testing.assert_allclose(scale.std, np.nanstd(y["a"]), rtol=1e-5)


def test_classes_have_no_scale():
    x, _ = draw()
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    label = layers.Dense(30, activation="softmax", name="label")(hidden)
    model = keras.Model(
        inputs, {"label": label, "b": layers.Dense(1, name="b")(hidden)}
    )
    training = lw.build_training_model(
        model, {"label": "sparse_categorical_crossentropy", "b": "mae"}
    )
    training.compile("adam")
    y = {"label": np.arange(ROWS) % 30, "b": x[:, 0]}
    assert list(lw.suggest(training, x, y, steps=2).target_scales) == ["b"]


@pytest.mark.parametrize("loss", ["poisson", "mean_squared_logarithmic_error"])
def test_losses_that_a_shifted_target_breaks_have_no_scale(loss):
    x, y = draw()
    y["a"] = 400 * np.abs(y["a"])
    suggestion = lw.suggest(training_of(losses={"a": loss, "b": "mse"}), x, y, steps=2)
    assert list(suggestion.target_scales) == ["b"]
    assert "standardise" not in suggestion.actions


def test_each_column_has_its_scale():
    x, _ = draw()
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    outputs = {n: layers.Dense(2, name=n)(hidden) for n in "ab"}
    training = lw.build_training_model(
        keras.Model(inputs, outputs), dict.fromkeys("ab", "mse")
    )
    training.compile("adam")
    y = {"a": x[:, :2] * [1.0, 5000.0], "b": x[:, 2:4]}
    (proposal,) = lw.suggest(training, x, y, steps=8).proposals
    assert proposal.branches == ("a",)
    assert "in its column 1" in proposal.reason
    exec(proposal.code, {"keras": keras, "np": np, "y": y})
    np.testing.assert_allclose(y["a"].std(axis=0), [1, 1], atol=0.1)


def test_marks_of_missing_labels_stay():
    x, y = draw()
    y["a"] = 50 * y["a"]
    y["a"][::3] = -1.0
    loss = lw.BranchLoss("mse", missing=-1.0)
    training = training_of(losses={"a": loss, "b": "mse"})
    (proposal,) = lw.suggest(training, x, y, steps=8).proposals
    exec(proposal.code, {"keras": keras, "np": np, "y": y})
    assert ((y["a"] == -1.0)[:, 0] == (np.arange(ROWS) % 3 == 0)).all()
    np.testing.assert_allclose(y["a"][y["a"] != -1.0].std(), 1, atol=0.1)


def test_two_losses_of_one_target_are_one_proposal():
    x, y = draw()
    y["a"] = 50 * y["a"]
    losses = {"a": "mse", "b": "mse", "again": lw.BranchLoss("mae", of="a")}
    (proposal,) = lw.suggest(training_of(losses=losses), x, y, steps=2).proposals
    assert proposal.branches == ("a", "again")


def test_the_code_is_written_as_y_was():
    x, y = draw()
    y = [y["a"].tolist(), (50 * y["b"]).tolist()]
    (proposal,) = lw.suggest(training_of(), x, y, steps=4).proposals
    exec(proposal.code, {"keras": keras, "np": np, "y": y})
    assert abs(y[1].std() - 1) < 0.2


def test_what_is_not_finite_comes_first():
    x, y = draw()
    x[3, 0] = np.nan
    suggestion = lw.suggest(training_of(), x, y, steps=4, batch_size=ROWS)
    assert suggestion.actions == ["not_finite"]
    assert suggestion.proposals[0].branches == ("a", "b")
    assert np.isnan([*suggestion.inspection.loss.values()]).all()


def test_tensors_and_files(tmp_path):
    """They are read in the same drawn order as arrays."""
    x, y = draw()
    tensors = {name: ops.convert_to_tensor(values) for name, values in y.items()}
    keras.utils.set_random_seed(0)
    got = lw.suggest(training_of(), ops.convert_to_tensor(x), tensors, steps=4)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = x
        keras.utils.set_random_seed(0)
        model = training_of()
        from_file = lw.suggest(model, file["x"], y, steps=4).inspection.losses
    keras.utils.set_random_seed(0)
    arrays = lw.suggest(training_of(), x, y, steps=4).inspection.losses
    np.testing.assert_allclose(from_file, arrays, rtol=1e-5)
    np.testing.assert_allclose(got.inspection.losses, arrays, rtol=1e-5)


def test_float16_takes_steps_with_small_gradients():
    x, y = draw()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        training = training_of()
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(training.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = lw.suggest(training, x, y, steps=40).inspection.losses
    assert losses[-5:].mean() < losses[:5].mean()


def test_a_generator_that_ends_early():
    x, y = draw()
    batches = (
        (x[i : i + 32], {n: v[i : i + 32] for n, v in y.items()}) for i in (0, 32)
    )
    assert lw.suggest(training_of(), batches, steps=9).steps == 2


def test_a_single_branch_has_nothing_to_weigh():
    x, y = draw()
    suggestion = lw.suggest(training_of("a"), x, {"a": y["a"]}, steps=2)
    assert "nothing to weigh: 'a' is the only branch" in str(suggestion)


def test_bad_input():
    x, y = draw()
    training = training_of()
    with pytest.raises(TypeError, match="`training` must be what `build_training"):
        lw.suggest(training.prediction_model, x, y)
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        lw.suggest(training, x, y, steps=0)
    with pytest.raises(ValueError, match="at least one batch"):
        lw.suggest(training, (pair for pair in [(x, y)][:0]))
    fresh = lw.build_training_model(training_of().prediction_model, {"a": "mse"})
    with pytest.raises(ValueError, match="must be compiled"):
        lw.suggest(fresh, x, y)
