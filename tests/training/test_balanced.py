"""A balancer's backward pass: the gradients that reach the trunk and the heads."""

import functools

import keras
import numpy as np
import pytest
from balanced_nets import (
    LEVELS,
    NETS,
    Equal,
    Uneven,
    data,
    plain,
    state_of,
    step,
    train,
    weights_of,
)
from keras import layers, ops

import lossweigh as lw
from lossweigh.gradients.balanced import BalancedModel

BACKEND = keras.backend.backend()


def of_the_trunk(training):
    """The identities of the variables that more than one branch depends on."""
    (balanced,) = (part for part in training.layers if isinstance(part, BalancedModel))
    return {id(variable) for variable in balanced.cut.trunk.trainable_variables}


@functools.cache
def in_plain_training(net):
    """A model, data, and what each branch alone and all of them take from it."""
    model = NETS[net]()
    x, y = data(model)
    alone = [
        step(model, x, y, None, [float(other == name) for other in y])[0] for name in y
    ]
    return model, x, y, alone, step(model, x, y)[0]


# Each net without an exact pass and with one; some of them at the other levels.
TWO_LEVELS = ("representation", "calibrated")
SUMS = [(net, level) for level in TWO_LEVELS for net in NETS]
SUMS += [
    (net, level)
    for level in ("parameters", "parameters / 3")
    for net in ("two_places", "partly", "siamese_partly")
]
SUMS += [
    pytest.param(
        "two_places", level, marks=pytest.mark.compiled, id=f"compiled-{level}"
    )
    for level in TWO_LEVELS
]


# Keras says so of an output without a loss, and so do we.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.filterwarnings("ignore:No two branches take")
@pytest.mark.parametrize(("net", "level"), SUMS)
def test_the_trunk_gets_the_weighted_sum(net, level):
    """`sum_k w_k g_k` from K separate passes; the heads get what they always do."""
    model, x, y, alone, together = in_plain_training(net)
    balanced, training = step(model, x, y, Uneven(**LEVELS[level]))
    weights = weights_of(training)
    assert len(set(weights.round(4))) == len(y)
    in_trunk = of_the_trunk(training)
    for index, variable in enumerate(model.weights):
        expected = together[index]
        if id(variable) in in_trunk:
            parts = zip(weights, alone, strict=True)
            expected = sum(weight * lost[index] for weight, lost in parts)
        np.testing.assert_allclose(
            balanced[index], expected, atol=1e-5, rtol=1e-5, err_msg=variable.path
        )


@pytest.mark.smoke
@pytest.mark.parametrize(
    "net", ["plain", "nested", "partly", "siamese", "siamese_partly"]
)
def test_weights_at_the_parameters_are_the_exact_ones(net):
    """The Gramian of the gradients of the shared parameters, by K separate passes."""
    model, x, y, alone, _ = in_plain_training(net)
    _, training = step(model, x, y, Uneven(level="parameters"))
    in_trunk = of_the_trunk(training)
    norms = []
    for lost in alone:
        kept = zip(model.weights, lost, strict=True)
        norms.append(np.sqrt(sum((g**2).sum() for v, g in kept if id(v) in in_trunk)))
    expected = np.arange(1, len(y) + 1) / norms
    np.testing.assert_allclose(weights_of(training), expected, rtol=1e-4)


def noisy():
    """BatchNormalization and Dropout, in the trunk and in a head."""
    x = keras.Input((6,), name="x")
    hidden = layers.BatchNormalization()(layers.Dense(8, activation="tanh")(x))
    hidden = layers.Dropout(0.3, seed=5)(hidden)
    head = layers.BatchNormalization()(layers.Dense(4)(hidden))
    z = layers.Dense(2, name="z", kernel_regularizer="l2")(head)
    return keras.Model(x, {"z": z, "b": layers.Dense(2, name="b")(hidden)})


@functools.cache
def noisy_training(level):
    """The logs and numbers of a model with equal weights; None is plain training."""
    keras.utils.set_random_seed(0)
    model = noisy()
    x, y = data(model, rows=20)
    balancer = level and Equal(**LEVELS[level])
    training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.05))
    fitted = training.fit(
        x,
        y,
        batch_size=8,
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
    )
    return fitted.history, model.get_weights()


@pytest.mark.compiled
@pytest.mark.parametrize("level", LEVELS)
def test_equal_weights_are_plain_training(level):
    """Step by step, with moving statistics and random numbers too."""
    history, weights = noisy_training(None)
    balanced, of_balanced = noisy_training(level)
    for name, values in history.items():
        assert balanced[name] == pytest.approx(values, rel=1e-5), name
    assert balanced["z_balance"] == [1.0, 1.0, 1.0]
    for one, other in zip(weights, of_balanced, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@keras.saving.register_keras_serializable(package="tests")
class Penalty(layers.Layer):
    """Adds a loss of its own, as a variational layer does."""

    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


def penalised(in_head=True):
    """Losses of layers of the trunk: in it, in a model inside of it; and of a head."""
    inner = keras.Input((8,))
    active = layers.Dense(8, activity_regularizer=keras.regularizers.L2(0.5))
    nested = keras.Model(inner, active(inner))
    x = keras.Input((6,), name="x")
    hidden = Penalty()(nested(layers.Dense(8, activation="tanh")(x)))
    z = layers.Dense(2, name="z")(Penalty()(hidden) if in_head else hidden)
    return keras.Model(x, {"z": z, "b": layers.Dense(2, name="b")(hidden)})


def remembering():
    """A trunk whose state is in no layer's list of variables."""
    x = keras.Input(batch_shape=(8, 5, 6), name="x")
    hidden = layers.LSTM(4, return_sequences=True, stateful=True)(x)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(x, {name: layers.Dense(2, name=name)(hidden) for name in "zb"})


@functools.cache
def trained_besides(net, level):
    """The losses of each epoch and the numbers; None is plain training."""
    keras.utils.set_random_seed(0)
    model = net()
    x, y = data(model)
    balancer = level and Equal(**LEVELS[level])
    training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.1))
    fitted = training.fit(x, y, batch_size=8, epochs=4, verbose=0, shuffle=False)
    logs = fitted.history["loss"]
    logs += [training.test_on_batch(x, y, return_dict=True)["loss"]]
    return np.array(logs, dtype="float32"), model.get_weights()


# Keras on torch fails on a stateful layer, and forgets its state on JAX.
@pytest.mark.every_case
@pytest.mark.parametrize(
    "net", [penalised, *([remembering] if BACKEND == "tensorflow" else [])]
)
@pytest.mark.parametrize("level", LEVELS)
def test_what_shared_layers_do_besides(net, level):
    """Their own losses are trained and logged as they are, and their state moves."""
    logs, weights = trained_besides(net, None)
    of_balanced, balanced = trained_besides(net, level)
    assert len(set(logs)) == len(logs)
    np.testing.assert_allclose(of_balanced, logs, rtol=1e-5)
    for one, other in zip(weights, balanced, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("level", ["parameters / 3", "calibrated"])
def test_the_losses_of_shared_layers_are_not_balanced(level):
    """With weights of 0 they are all that the trunk is trained by."""

    class Nothing(lw.Balancer):
        def solve(self, gramian, present=None):
            return ops.zeros((gramian.shape[0],), dtype="float32")

    model = penalised(in_head=False)
    x, y = data(model)
    optimizer = keras.optimizers.SGD
    training = train(model, y, Nothing(**LEVELS[level]), optimizer=optimizer(0.1))
    layer, start = model.layers[1], model.get_weights()
    for _ in range(4):
        training.train_on_batch(x, y)
    moved = layer.get_weights()[0]
    model.set_weights(start)
    training = train(model, y, None, [1e-7, 1e-7], optimizer=optimizer(0.1))
    for _ in range(4):
        training.train_on_batch(x, y)
    assert not np.allclose(moved, start[0], atol=1e-3)
    np.testing.assert_allclose(moved, layer.get_weights()[0], atol=1e-6)


def test_masks_pass_the_boundary():
    """Padded steps don't count behind the balancer either, at any level."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    hidden = layers.Embedding(7, 4, mask_zero=True)(tokens)
    hidden = layers.SimpleRNN(4, return_sequences=True)(hidden)
    z = layers.Dense(2, name="z")(hidden)
    b = layers.Dense(2, name="b")(layers.SimpleRNN(3)(hidden))
    model = keras.Model(tokens, {"z": z, "b": b})
    rng = np.random.default_rng(0)
    x = rng.integers(1, 7, (6, 5))
    x[:, 3:] = 0
    y = {"z": rng.normal(size=(6, 5, 2)), "b": rng.normal(size=(6, 2))}
    expected, training = step(model, x, y)
    losses = training.test_on_batch(x, y, return_dict=True)
    for level in LEVELS:
        lost, balanced = step(model, x, y, Equal(**LEVELS[level]))
        for one, other in zip(lost, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=level)
        logs = balanced.test_on_batch(x, y, return_dict=True)
        assert float(logs["z_loss"]) == pytest.approx(float(losses["z_loss"]))


MODES = {
    "default": {},
    "eager": {"run_eagerly": True},
    "accumulation": {},
    "jit": {"jit_compile": True},
    "steps_per_execution": {"steps_per_execution": 2},
}
# Each level in some of the modes: a compiled step takes long to make.
EXECUTIONS = [
    ("eager", "parameters / 3"),
    ("accumulation", "representation"),
    ("accumulation", "parameters / 3"),
]
if BACKEND != "jax":  # which compiles each operation of an eager step, and all others
    EXECUTIONS += [("eager", "representation"), ("eager", "calibrated")]
    # Torch's compiler takes long, and warns users of torch.
    marks = [pytest.mark.filterwarnings("ignore"), pytest.mark.long]
    EXECUTIONS += [
        pytest.param("jit", level, marks=marks if BACKEND == "torch" else [])
        for level in ("representation", "parameters / 3")
    ]
if BACKEND != "torch":
    EXECUTIONS += [("steps_per_execution", level) for level in TWO_LEVELS]


@functools.cache
def in_mode(mode, level, even, kind, rows):
    """A model's numbers after two epochs, and what was logged."""
    keras.utils.set_random_seed(0)
    model = plain()
    x, y = data(model, rows=16 if even else 18)
    steps = 2 if mode == "accumulation" else None
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
    balancer = kind(**LEVELS[level])
    training = train(model, y, balancer, optimizer=optimizer, **MODES[mode])
    fitted = training.fit(x, y, batch_size=rows, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), fitted.history["z_balance"]


@pytest.mark.compiled
@pytest.mark.every_case
@pytest.mark.parametrize(("mode", "level"), EXECUTIONS)
def test_modes_of_execution(mode, level):
    """Each gives what the default gives; accumulation what larger batches give.

    The last batch is smaller, so that TensorFlow knows of no batch's size (but for
    torch's compiler, which takes a minute for another shape).
    """
    even = mode == "accumulation" or (BACKEND, mode) == ("torch", "jit")
    kind, rows = (Equal, 8) if mode == "accumulation" else (Uneven, 4)
    expected, balance = in_mode("default", level, even, kind, rows)
    weights, of_mode = in_mode(mode, level, even, kind, rows=4)
    assert of_mode == pytest.approx(balance, rel=1e-4)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@functools.cache
def nash_weights(policy, level, everywhere):
    """Nash-MTL's weights after two epochs; the model's policy, or all have it."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = plain()
        if not everywhere:
            keras.config.set_dtype_policy("float32")
        x, y = data(model, rows=16)
        optimizer = keras.optimizers.SGD(0.01)
        if policy == "mixed_float16":
            # A scale that skips no step: the others come when they do in float32.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**8)
        balancer = lw.NashMTL(**LEVELS[level])
        training = train(model, y, balancer, optimizer=optimizer)
        training.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    return weights_of(training)


@pytest.mark.parametrize(
    ("policy", "level", "everywhere"),
    [
        *(("mixed_float16", level, False) for level in LEVELS),
        *(("mixed_float16", level, True) for level in TWO_LEVELS),
        *(("mixed_bfloat16", "representation", some) for some in (False, True)),
        ("mixed_bfloat16", "calibrated", False),
    ],
)
def test_mixed_precision(policy, level, everywhere):
    """Nash-MTL's weights depend on the scale of the gradients, not on the loss's."""
    weights = nash_weights(policy, level, everywhere)
    assert weights.dtype == "float32"
    rounded = ops.convert_to_numpy(ops.cast(weights, "bfloat16"))
    assert not np.array_equal(weights, rounded)  # nowhere on its way
    exact = nash_weights("float32", level, everywhere=True)
    np.testing.assert_allclose(weights, exact, rtol=0.1)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(("NashMTL", level) for level in LEVELS),
        ("MGDA", "representation"),
        ("GradNorm", "parameters / 3"),
        ("LearningRateAnnealing", "representation"),
        ("LearningRateAnnealing", "calibrated"),
    ],
)
def test_other_float_types(name, level):
    """The weights are found in float32, whatever `set_floatx` says of the rest."""
    found = {}
    for floatx in ("float32", "float64", "bfloat16"):
        keras.utils.set_random_seed(0)
        keras.config.set_floatx(floatx)
        try:
            model = plain()
            rng = np.random.default_rng(0)
            model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
            x, y = data(model)
            balancer = getattr(lw, name)(**LEVELS[level])
            training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.0))
            for _ in range(4):
                training.train_on_batch(x, y)
            assert keras.config.floatx() == floatx
        finally:
            keras.config.set_floatx("float32")
        found[floatx] = weights_of(training)
        assert found[floatx].dtype == "float32"
    np.testing.assert_allclose(found["float64"], found["float32"], rtol=1e-3)
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.3)
    assert np.abs(found["float32"] - found["float32"].mean()).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(("UPGrad", level) for level in LEVELS),
        ("NormBalancer", "calibrated"),
        ("LearningRateAnnealing", "representation"),
        ("LearningRateAnnealing", "parameters"),
    ],
)
def test_a_branch_that_shares_nothing(name, level):
    """It is trained as it would be alone, and the others are balanced."""
    x, own = keras.Input((6,), name="x"), keras.Input((6,), name="own")
    hidden = layers.Dense(8, activation="tanh", name="last")(x)
    heads = {n: layers.Dense(2, name=n)(hidden) for n in "zb"}
    heads["a"] = layers.Dense(2, name="a")(layers.Dense(3)(own))
    model = keras.Model({"x": x, "own": own}, heads)
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(8, 6)) for name in ("x", "own")}
    y = {name: rng.normal(size=(8, 2)) for name in "zba"}
    lost = []
    for balancer in (None, getattr(lw, name)(**LEVELS[level])):
        training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.01))
        before = [w.copy() for w in model.get_weights()]
        for _ in range(4):
            training.train_on_batch(x, y)
        after = model.get_weights()
        model.set_weights(before)
        lost.append([a - b for a, b in zip(before, after, strict=True)])
    for variable, plainly, balanced in zip(model.weights, *lost, strict=True):
        layer = variable.path.split("/")[0]
        if layer == "a":
            np.testing.assert_allclose(balanced, plainly, rtol=1e-4, atol=1e-7)
        if layer == "last":
            assert np.abs(balanced - plainly).max() > 1e-6
    weights = weights_of(training)
    assert np.isfinite(weights).all()
    assert weights[2] == 1.0  # as it began


@keras.saving.register_keras_serializable(package="tests")
class OwnStep(lw.TrainingModel):
    """A user's, whose step looks at the batch first."""

    def train_step(self, *args):
        *state, batch = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        assert isinstance(x, dict), type(x)
        return super().train_step(*state, (x, y, sample_weight))


@pytest.mark.compiled
@pytest.mark.parametrize("level", ["representation", "parameters / 3"])
def test_a_step_of_its_own(level):
    model = plain()
    x, y = data(model)
    start, runs = model.get_weights(), []
    for own in (False, True):
        model.set_weights(start)
        balancer = Uneven(**LEVELS[level])
        training = train(model, y, balancer)
        if own:
            training = OwnStep(training.input, training.output)
        training.compile(keras.optimizers.SGD(0.1))
        for _ in range(4):
            training.train_on_batch(x, y)
        runs.append(model.get_weights())
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_several_inputs():
    one, other = keras.Input((3,), name="one"), keras.Input((4,), name="other")
    hidden = layers.Dense(5)(layers.Concatenate()([one, other]))
    outputs = {
        "z": layers.Dense(2, name="z")(hidden),
        "b": layers.Dense(2, name="b")(layers.Concatenate()([hidden, other])),
    }
    for inputs in ([one, other], {"one": one, "other": other}):
        model = keras.Model(inputs, outputs)
        rng = np.random.default_rng(0)
        x = {"one": rng.normal(size=(6, 3)), "other": rng.normal(size=(6, 4))}
        y = {"z": rng.normal(size=(6, 2)), "b": rng.normal(size=(6, 2))}
        if isinstance(inputs, list):
            x = list(x.values())
        expected = step(model, x, y)[0]
        for level in LEVELS:
            lost = step(model, x, y, Equal(**LEVELS[level]))[0]
            for a, b in zip(lost, expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


COMPILED = pytest.mark.compiled
RESUMED = {
    "GradNorm": lambda: lw.GradNorm(level=lw.Calibrated(update_every=3)),
    "GradVac": lambda: lw.GradVac(),
    "PCGrad": lambda: lw.PCGrad(level=lw.Parameters(update_every=2)),
    "GradDrop": lambda: lw.GradDrop(),
}


@pytest.mark.parametrize(
    "method", [pytest.param("GradNorm", marks=COMPILED), *list(RESUMED)[1:]]
)
def test_saved_and_resumed(method, tmp_path):
    """State, weights, draws and the next epoch to the bit."""
    model = plain()
    x, y = data(model, rows=16)
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    balancer = RESUMED[method]()
    training = train(model, y, balancer, optimizer=keras.optimizers.Adam(0.01))
    training.fit(x, y, epochs=2, **fit)
    training.save(tmp_path / "t.keras")
    loaded = keras.models.load_model(tmp_path / "t.keras")
    assert isinstance(loaded, lw.TrainingModel)
    assert type(loaded.balancer) is type(balancer)
    assert loaded.balancer.get_config() == balancer.get_config()
    assert loaded.balancer.branches == ["z", "b", "a"]
    logs = training.fit(x, y, **fit).history
    assert loaded.fit(x, y, **fit).history == logs
    for one, other in zip(training.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        )
    predicted = loaded.prediction_model.predict(x, verbose=0)
    np.testing.assert_array_equal(predicted["z"], model.predict(x, verbose=0)["z"])


def test_the_optimizer_leaves_the_balancer_alone():
    """No weight decay or clipping touches its weights and state."""
    model = plain()
    x, y = data(model)
    start = model.get_weights()
    expected = train(model, y, lw.GradNorm(), optimizer=keras.optimizers.SGD(1e-6))
    expected.fit(x, y, epochs=3, verbose=0)
    model.set_weights(start)
    optimizer = keras.optimizers.SGD(1e-6, weight_decay=0.5, clipnorm=1e-3)
    training = train(model, y, lw.GradNorm(), optimizer=optimizer)
    training.fit(x, y, epochs=3, verbose=0)
    np.testing.assert_allclose(
        weights_of(training),
        weights_of(expected),
        rtol=1e-3,
    )


def test_moving_averages_are_refused():
    """Keras 3.15 fails on variables that are overwritten with their gradient."""
    model = plain()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    for given in (optimizer, keras.optimizers.LossScaleOptimizer(optimizer)):
        with pytest.raises(
            ValueError, match=r"must not have `use_ema=True` with a bal"
        ):
            train(model, data(model)[1], lw.MGDA(), optimizer=given)


if BACKEND == "tensorflow":

    @pytest.mark.compiled
    def test_traced_models_read_nothing_late():
        """In freshly traced models, Dropout's seeds and all state as in eager."""
        model = noisy()
        x, y = data(model, rows=12)
        start = model.get_weights()

        def run(**compiling):
            model.set_weights(start)
            for layer in model.layers:
                if isinstance(layer, layers.Dropout):
                    layer.seed_generator.state.assign([5, 0])
            balancer = Uneven(level=lw.Calibrated(update_every=2))
            training = train(
                model, y, balancer, optimizer=keras.optimizers.SGD(0.01), **compiling
            )
            losses = [float(training.train_on_batch(x, y)[0]) for _ in range(4)]
            return losses, state_of(training)

        losses, state = run(run_eagerly=True)
        for _ in range(6):
            traced, after = run()
            assert traced == pytest.approx(losses, rel=1e-4)
            for name, values in state.items():
                np.testing.assert_allclose(after[name], values, rtol=1e-3)
