"""The ways in: matrices, files, wrappers, optimizers, masks, configs."""

import json

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from balanced_nets import balanced_layer
from keras import layers, ops

import lossweigh as lw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")
KINDS = RNG.integers(0, 3, 12)
LOSSES = {"z": "mse", "k": "sparse_categorical_crossentropy"}


def two_heads():
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5, activation="tanh", name="trunk")(x)
    z = layers.Dense(2, name="z")(hidden)
    return keras.Model(
        x, {"z": z, "k": layers.Dense(3, activation="softmax", name="k")(hidden)}
    )


def built(model, losses, *args, **kwargs):
    training = lw.build_training_model(model, losses, *args, **kwargs)
    training.compile(keras.optimizers.SGD(0.1))
    return training


# Data ---------------------------------------------------------------------------


def test_as_many_arrays_as_inputs_and_targets():
    """`y` that names the target is the target; a dummy array isn't."""
    x = keras.Input((4,), name="x")
    training = built(keras.Model(x, layers.Dense(4, name="z")(x)), "mse")
    training.fit([X, X], np.zeros(12), verbose=0)
    with pytest.raises(ValueError, match="Received 2 arrays in `x`"):
        training.fit([X, X], {"z": X}, verbose=0)


def test_a_dict_may_have_weights_beside_the_inputs():
    """As `sample_weight` would give them, which goes before them."""
    training = built(two_heads(), LOSSES)
    y, weights = {"z": Y, "k": KINDS}, np.arange(12.0)
    targets = {f"{name}_target": values for name, values in y.items()}

    def losses(x, *args, **kwargs):
        return training.evaluate(x, *args, verbose=0, return_dict=True, **kwargs)

    expected = losses(X, y, sample_weight={"z": weights})
    assert expected["z_loss"] != pytest.approx(losses(X, y)["z_loss"])
    beside = {"x": X, "z_sample_weight": weights}
    assert losses(beside, y) == pytest.approx(expected)
    assert losses({**beside, **targets}) == pytest.approx(expected)
    ones = {"z": np.ones(12)}
    assert losses(beside, y, sample_weight=ones) == pytest.approx(losses(X, y))
    with pytest.raises(ValueError, match=r"unknown: \['w_sample_weight'\]"):
        losses({"x": X, "w_sample_weight": weights}, y)


def test_targets_in_y_go_before_those_beside_the_inputs():
    training = built(two_heads(), LOSSES)
    y = {"z": Y, "k": KINDS}
    beside = {"x": X, "z_target": Y + 9, "k_target": KINDS}
    found = training.evaluate(beside, y, verbose=0)
    assert found == pytest.approx(training.evaluate(X, y, verbose=0))
    dummy = training.evaluate(beside, np.zeros(12), verbose=0)
    assert dummy == pytest.approx(training.evaluate(X, {**y, "z": Y + 9}, verbose=0))


def test_targets_for_metrics_alone_beside_a_dict_of_inputs():
    net = two_heads()
    training = lw.build_training_model(net, {"z": lw.TargetFreeLoss(ops.square)})
    training.compile(keras.optimizers.SGD(0.1), metrics={"k": "accuracy"})
    found = training.evaluate({"x": X}, {"k": KINDS}, verbose=0)
    assert found == training.evaluate(X, {"k": KINDS}, verbose=0)


def test_a_sparse_matrix():
    is_sparse = keras.backend.backend() != "torch"  # where Keras makes it dense
    x = keras.Input((4,), sparse=is_sparse, name="x")
    training = built(keras.Model(x, layers.Dense(2, name="z")(x)), "mse")
    matrix = scipy.sparse.csr_matrix(X * (X > 0))
    found = training.evaluate(matrix, Y, 12, verbose=0)
    assert found == pytest.approx(training.evaluate(matrix.toarray(), Y, 12, verbose=0))
    training.fit(matrix, Y, verbose=0)


def test_data_sets_of_an_hdf5_file(tmp_path):
    training = built(two_heads(), LOSSES)
    weights = RNG.uniform(size=12).astype("float32")
    y = {"z": Y, "k": KINDS}
    expected = training.evaluate(X, y, 12, sample_weight={"z": weights}, verbose=0)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name, values in {"x": X, "w": weights, **y}.items():
            file[name] = values
        y = {"z": file["z"], "k": file["k"]}
        w = {"z": file["w"]}
        found = training.evaluate(file["x"], y, 12, sample_weight=w, verbose=0)
        training.fit(file["x"], y, sample_weight=w, shuffle="batch", verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["strings", "categories"])
def test_words_as_classes(form):
    """The cures that the message names are run."""
    words = np.array(["cat", "dog", "cow"])[KINDS]
    column = pd.Series(words).astype("category" if form == "categories" else object)
    training = built(two_heads(), LOSSES)
    with pytest.raises(TypeError, match=r"return_inverse.*`column.astype\("):
        training.fit(X, {"z": Y, "k": column}, verbose=0)
    for codes in (
        np.unique(words, return_inverse=True)[1],
        column.astype("category").cat.codes,
    ):
        training.fit(X, {"z": Y, "k": codes}, verbose=0)


def test_a_stream_is_worded_too():
    """What shows without the numbers: lengths, and what isn't there."""
    training = built(two_heads(), LOSSES)
    for y, words in (
        ({"z": Y[:1], "k": KINDS}, "same length, 12. Received 1 for `z_target`"),
        ({"z": None, "k": KINDS}, "an array for the target 'z'. Received: None"),
    ):
        batches = (batch for batch in [(X, y)])
        with pytest.raises((TypeError, ValueError), match=words):
            training.evaluate(batches, steps=1, verbose=0)


def test_sparse_targets_and_weights():
    """They are made dense, as inputs are."""
    weights = np.arange(12.0)[:, None]
    training = built(two_heads(), LOSSES, lw.FixedWeights())
    dense = training.test_on_batch(X, {"z": Y, "k": KINDS}, {"z": weights})
    sparse = training.test_on_batch(
        X,
        {"z": scipy.sparse.csr_matrix(Y), "k": KINDS},
        {"z": scipy.sparse.csr_matrix(weights)},
    )
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)


def test_a_class_index_out_of_range_in_a_stream():
    """torch stops at it, as Keras does; JAX goes on, and tells after the epoch."""
    training = built(two_heads(), LOSSES)
    batches = (batch for batch in 2 * [(X, {"z": Y, "k": KINDS + 2})])
    backend = keras.backend.backend()
    if backend == "jax":
        with pytest.warns(UserWarning, match="branch 'k' must hold class indices"):
            training.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    else:
        error, words = {
            "torch": (ValueError, "'k' must have class indices as targets"),
            "tensorflow": (Exception, "outside the valid range"),
        }[backend]
        with pytest.raises(error, match=words):
            training.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)


@pytest.mark.parametrize("weights", [{"balanced": 1.0}, {"b": {"x": 2.0}}])
def test_class_weights_of_words(weights):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(3, activation="softmax", name="b")(x))
    training = built(model, LOSSES["k"])
    with pytest.raises(ValueError, match="must have class indices, integers"):
        training.fit(X, KINDS, class_weight=weights, verbose=0)


def test_an_output_without_the_axis_of_samples():
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5)(x)
    outputs = {"z": layers.Dense(2)(hidden), "m": ops.mean(hidden, axis=0)}
    with pytest.raises(ValueError, match=r"'m' of the shape \(5,\)"):
        lw.build_training_model(keras.Model(x, outputs), {"z": "mse", "m": "mse"})


def test_a_tensor_without_rows_is_refused():
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(3)(x)
    model = keras.Model(x, {"z": layers.Dense(2)(hidden), "s": ops.mean(hidden)})

    def itself(tensor):
        return tensor

    losses = {"z": "mse", "s": lw.TargetFreeLoss(itself)}
    with pytest.raises(ValueError, match=r"'s', a single number for the whole batch"):
        lw.build_training_model(model, losses)


# Keras's wrappers, and optimizers --------------------------------------------------


def test_keras_wrappers():
    def make(X, y):
        x = keras.Input((4,), name="x")
        return built(keras.Model(x, layers.Dense(1, name="z")(x)), "mse")

    regressor = keras.wrappers.SKLearnRegressor(make, fit_kwargs={"verbose": 0})
    assert regressor.fit(X, Y[:, 0]).predict(X).shape == (12,)


@keras.saving.register_keras_serializable("test_doors")
class Halved(keras.optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        return super().apply([g * 0.5 for g in grads], trainable_variables)


@keras.saving.register_keras_serializable("test_doors")
class HalvedBefore(keras.optimizers.SGD):
    """In what `train_step` calls: on TensorFlow the one, on JAX the other."""

    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(g * 0.5, v) for g, v in grads_and_vars])

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        grads = [g * 0.5 for g in grads]
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)


HALVED = [
    ("representation", Halved),
    pytest.param("parameters", Halved, marks=pytest.mark.compiled),
]
if keras.backend.backend() != "torch":
    HALVED += [
        ("parameters", HalvedBefore),
        pytest.param("representation", HalvedBefore, marks=pytest.mark.compiled),
    ]


@pytest.mark.parametrize(("level", "kind"), HALVED)
def test_an_optimizer_that_changes_gradients(level, kind):
    """It changes those of the model, as half the learning rate would."""
    found = []
    for optimizer in (kind(0.1), keras.optimizers.SGD(0.05)):
        keras.utils.set_random_seed(0)
        training = lw.build_training_model(
            two_heads(), LOSSES, balancer=lw.GradNorm(level=level)
        )
        training.compile(optimizer)
        training.fit(X, {"z": Y, "k": KINDS}, epochs=2, shuffle=False, verbose=0)
        found.append(training.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


DOORS = ["apply_gradients"]
if keras.backend.backend() != "tensorflow":  # which has no other
    DOORS.append("stateless_apply")


@pytest.mark.parametrize("door", DOORS)
def test_the_doors_of_an_optimizer(door):
    """Whichever is called, a balancer's variable gets its "gradient" as it is."""
    training = lw.build_training_model(two_heads(), LOSSES, balancer=lw.MGDA())
    training.compile(HalvedBefore(0.1))
    optimizer, variables = training.optimizer, training.trainable_variables
    optimizer.build(variables)
    gradients = [ops.ones(variable.shape) for variable in variables]
    before = [ops.convert_to_numpy(variable.value) for variable in variables]
    if door == "apply_gradients":
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        after = [ops.convert_to_numpy(variable.value) for variable in variables]
    else:
        state = [variable.value for variable in optimizer.variables]
        values = [variable.value for variable in variables]
        after, _ = optimizer.stateless_apply(state, gradients, values)
        after = [ops.convert_to_numpy(value) for value in after]
    ours = {id(variable) for variable in balanced_layer(training).state_variables}
    for variable, old, new in zip(variables, before, after, strict=True):
        expected = np.ones_like(old) if id(variable) in ours else old - 0.05
        np.testing.assert_allclose(new, expected, atol=1e-6)


def test_an_optimizer_that_is_built_for_another_model():
    model, optimizer = two_heads(), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    training = lw.build_training_model(model, LOSSES, balancer=lw.MGDA())
    with pytest.raises(ValueError, match=r"type\(optimizer\).from_config\(optimizer"):
        training.compile(optimizer)
    training.compile(type(optimizer).from_config(optimizer.get_config()))
    training.fit(X, {"z": Y, "k": KINDS}, verbose=0)
    training.compile(training.optimizer)  # its own may stay
    training.fit(X, {"z": Y, "k": KINDS}, verbose=0)


def test_an_optimizer_that_is_built_for_more():
    """As after a training whose weights were learned, or before a layer was frozen."""
    model = two_heads()
    first = lw.build_training_model(model, LOSSES, lw.LossWeighter())
    first.compile("adam")
    first.fit(X, {"z": Y, "k": KINDS}, verbose=0)
    second = lw.build_training_model(model, LOSSES)
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match=r"1 more variables than are trained.*JAX"):
            second.compile(first.optimizer)
        second.compile(type(first.optimizer).from_config(first.optimizer.get_config()))
    else:
        second.compile(first.optimizer)
    before = model.get_weights()
    second.fit(X, {"z": Y, "k": KINDS}, verbose=0)
    assert (model.get_weights()[0] != before[0]).any()


if keras.backend.backend() == "torch":

    def test_a_torch_module_in_the_trunk():
        """It trains at the representation, and is refused where it wouldn't."""
        import torch

        wrapper = layers.TorchModuleWrapper(
            torch.nn.Linear(4, 5), output_shape=(None, 5)
        )
        x = keras.Input((4,), name="x")
        hidden = wrapper(x)
        outputs = {name: layers.Dense(2, name=name)(hidden) for name in "ab"}
        model, losses = keras.Model(x, outputs), {"a": "mse", "b": "mse"}
        for level in ("parameters", "calibrated"):
            with pytest.raises(ValueError, match=r"holds a torch module"):
                lw.build_training_model(model, losses, balancer=lw.MGDA(level=level))
        before = wrapper.module.weight.detach().clone()
        built(model, losses, balancer=lw.MGDA()).fit(X, {"a": Y, "b": -Y}, verbose=0)
        assert (before != wrapper.module.weight).any()


@pytest.mark.compiled  # Keras fails in eager steps on TensorFlow
def test_a_layer_of_8_bits_in_the_trunk():
    """Its scales are overwritten in each step: no gradients that could be weighed."""
    model, losses = two_heads(), LOSSES
    model.get_layer("trunk").quantize("float8")
    for level in ("parameters", "calibrated"):
        with pytest.raises(ValueError, match=r"'trunk' computes in 8 bits"):
            lw.build_training_model(model, losses, balancer=lw.MGDA(level=level))
    training = built(model, losses, balancer=lw.MGDA())
    training.fit(X, {"z": Y, "k": KINDS}, verbose=0)


# Masks ----------------------------------------------------------------------------

TOKENS = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 4]])


@keras.saving.register_keras_serializable("test_doors")
class NotZero(layers.Layer):
    def call(self, tokens):
        return ops.not_equal(tokens, 0)

    def compute_output_shape(self, shape):
        return shape


def test_a_mask_that_a_layer_was_called_with():
    """A target of a million at padded steps counts nowhere, as in Keras."""
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    hidden = layers.Embedding(5, 3)(tokens)
    hidden = layers.LSTM(3, return_sequences=True)(hidden, mask=NotZero()(tokens))
    model = keras.Model(tokens, layers.Dense(2, name="out")(hidden))
    y = RNG.normal(size=(3, 4, 2)).astype("float32")
    y[TOKENS == 0] = 1e6
    model.compile("sgd", loss="mse")
    expected = model.evaluate(TOKENS, y, verbose=0)
    found = built(model, "mse", lw.FixedWeights()).evaluate(TOKENS, y, verbose=0)[0]
    assert found == pytest.approx(expected, rel=1e-5)


def of_last_axis(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=1)


@pytest.mark.parametrize("size", [4, 3])
@pytest.mark.filterwarnings("ignore:No mask arrives")
def test_a_loss_without_an_axis_of_time(size):
    """Also where another axis has the same length."""
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    hidden = layers.Embedding(5, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.Dense(size, name="out")(hidden))
    y = np.zeros((3, 4, size), "float32")
    training = built(model, of_last_axis)
    with pytest.raises(ValueError, match="gives values without an axis of time"):
        training.evaluate(TOKENS, y, verbose=0)
    cure = lw.BranchLoss(of_last_axis, mask=False)
    built(model, cure).evaluate(TOKENS, y, verbose=0)


# Configs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda text: text.replace('"branch": "z"', '"branch": "y"'),
            r"isn't the config of a training model.*\['z', 'k'\]",
        ),
        (
            lambda text: text.replace("BranchLoss", "BranchLost"),
            "isn't the config of a training model.*BranchLost",
        ),
        (
            lambda text: text.replace('"layers"', '"lairs"'),
            "must have `layers`, a list of dicts",
        ),
        (lambda text: "{}", "must have `layers`, a list of dicts"),
    ],
)
def test_a_damaged_config(damage, words):
    text = json.dumps(lw.build_training_model(two_heads(), LOSSES).get_config())
    config = json.loads(damage(text))
    with pytest.raises(ValueError, match=f"(?s){words}"):
        lw.TrainingModel.from_config(config)
