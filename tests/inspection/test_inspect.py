"""`training.inspect` sees what separate gradients show, and moves nothing."""

import keras
import native
import numpy as np
import pytest
from keras import layers, ops

import lossweigh as lw

ROWS = 12


def net(names="ab", dropout=False):
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(8, activation="tanh", name="first")(x)
    if dropout:
        hidden = layers.Dropout(0.5)(layers.BatchNormalization()(hidden))
    hidden = layers.Dense(8, activation="tanh", name="last")(hidden)
    return keras.Model(x, {n: layers.Dense(2, name=n)(hidden) for n in names})


def pyramid():
    """z takes both levels, b the upper one."""
    x = keras.Input((6,), name="x")
    low = layers.Dense(6, activation="tanh", name="low")(x)
    high = layers.Dense(5, activation="tanh", name="high")(low)
    both = layers.Concatenate()([low, high])
    return keras.Model(
        x, {"z": layers.Dense(2, name="z")(both), "b": layers.Dense(2, name="b")(high)}
    )


def siamese():
    x = keras.Input((6,), name="x")
    one = layers.Dense(5, activation="tanh", name="one")
    z, b = one(x[:, :3]), one(x[:, 3:])
    return keras.Model(
        x, {"z": layers.Dense(2, name="z")(z), "b": layers.Dense(2, name="b")(b)}
    )


def nested():
    start = keras.Input((6,))
    hidden = layers.Dense(7, activation="tanh", name="deep")(start)
    inner = keras.Model(start, [layers.Dense(3)(hidden), hidden], name="inner")
    x = keras.Input((6,), name="x")
    z, b = inner(x)
    return keras.Model(
        x, {"z": layers.Dense(2, name="z")(z), "b": layers.Dense(2, name="b")(b)}
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(5, activation="tanh")
        self.heads = {"b": layers.Dense(2), "z": layers.Dense(2)}

    def call(self, x, training=None):
        hidden = self.first(x)
        return {name: head(hidden) for name, head in self.heads.items()}


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return model


def draw(names, rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype("float32")
    scales = np.geomspace(0.1, 10, len(names))
    return x, {
        name: (scale * rng.normal(size=(rows, 2))).astype("float32")
        for name, scale in zip(names, scales, strict=True)
    }


def train(model, y, balancer=None, **compiling):
    training = lw.build_training_model(model, dict.fromkeys(y, "mse"), None, balancer)
    training.compile("adam", **compiling)
    return training


def squared_errors(y):
    def of(name):
        return lambda outputs: ops.mean(
            ops.square(ops.subtract(outputs[name], y[name]))
        )

    return [of(name) for name in y]


def numbers(inspection):
    """The norms and the cosines, as arrays."""
    result = inspection.to_dict()
    return (
        np.array([*result["gradient_norm"].values()]),
        np.array([[*row.values()] for row in result["cosine"].values()]),
    )


def all_values(training):
    """Every variable, the optimizer's too, as a copy."""
    variables = [*training.variables, *training.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


# The preferences weigh a branch that is alone, too.
BALANCERS = {
    "none": lambda: None,
    **{
        level: lambda level=level: lw.UPGrad(preferences=[1.0, 4.0], level=level)
        for level in ("representation", "parameters", "calibrated")
    },
}


@pytest.mark.parametrize("build", [net, pyramid, siamese, nested, subclassed])
def test_as_separate_gradients(build):
    model = build()
    names = list(model.output if build is not subclassed else "bz")
    x, y = draw(names)
    found = native.gradients(model, x, squared_errors(y))
    norms, cosines, paths = native.norms_and_cosines(found)
    result = train(model, y).inspect(x, y)
    got_norms, got_cosines = numbers(result)
    np.testing.assert_allclose(got_norms, norms, rtol=1e-5)
    np.testing.assert_allclose(got_cosines, cosines, atol=1e-5)
    by_layer = result.gradient_norm_by_layer
    assert set(by_layer) == {path.rpartition("/")[0] for path in paths}
    for layer, of_branches in by_layer.items():
        for each, norm in zip(found, of_branches.values(), strict=True):
            of_layer = [each[p].ravel() for p in paths if p.startswith(f"{layer}/")]
            expected = np.linalg.norm(np.concatenate(of_layer))
            np.testing.assert_allclose(norm, expected, rtol=1e-5, atol=1e-7)
    losses = [ops.convert_to_numpy(loss(model(x))) for loss in squared_errors(y)]
    np.testing.assert_allclose([*result.loss.values()], losses, rtol=1e-5)


@pytest.mark.parametrize(
    "balancer",
    [
        "none",
        "representation",
        "parameters",
        pytest.param("calibrated", marks=pytest.mark.compiled),
    ],
)
def test_looking_moves_nothing(balancer):
    """With accumulation, in a graph too, with dropout, statistics and seeds."""
    model = net(dropout=True)
    x, y = draw("ab", rows=16)
    optimizer = keras.optimizers.Adam(gradient_accumulation_steps=2)
    training = lw.build_training_model(
        model, dict.fromkeys(y, "mse"), lw.RandomWeights(), BALANCERS[balancer]()
    )
    # torch runs one step at once; where others run eagerly, that would compile.
    graph = keras.backend.backend() != "torch" and balancer == "calibrated"
    training.compile(optimizer, **({"steps_per_execution": 2} if graph else {}))
    training.fit(x, y, batch_size=4, verbose=0)
    before = all_values(training)
    first = training.inspect(x, y, batch_size=8)
    for then, now in zip(before, all_values(training), strict=True):
        np.testing.assert_array_equal(now, then)
    # The seeds weren't moved either: the same elements are dropped again.
    np.testing.assert_array_equal(
        training.inspect(x, y, batch_size=8).cosines, first.cosines
    )
    assert first.cosines.shape == (2, 2, 2)


def test_a_training_is_the_same_with_a_report():
    x, y = draw("ab", rows=16)
    weights = []
    for reports in ([], [lw.callbacks.GradientReport(x, y)]):
        keras.utils.set_random_seed(1)
        training = train(net(dropout=True), y, lw.UPGrad(level="calibrated"))
        training.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=reports)
        weights.append(all_values(training))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("balancer", ["representation", "parameters"])
def test_a_balancer_is_left_out(balancer):
    model = pyramid()
    x, y = draw("zb")
    plain = numbers(train(model, y).inspect(x, y))
    balanced = numbers(train(model, y, BALANCERS[balancer]()).inspect(x, y))
    np.testing.assert_allclose(balanced[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(balanced[1], plain[1], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    """Small gradients too: float16 alone would lose them."""
    model = net()
    x, y = draw("ab")
    weight = np.full(ROWS, 1e-6)
    expected = numbers(train(model, y).inspect(x, y, weight))
    keras.config.set_dtype_policy(policy)
    try:
        mixed = net()
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    got = numbers(train(mixed, y).inspect(x, y, weight))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-2)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-2)


def test_float16_overflows():
    """Where a training step would be skipped, the losses are scaled by less."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = net()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = draw("ab")
    y["b"] *= 100
    norms, cosines = numbers(train(model, y).inspect(x, y))
    assert np.isfinite([*norms, *cosines.ravel()]).all()
    assert norms[1] > 100


def test_means_over_batches():
    """Losses as `evaluate` gives them; norms and cosines as of each batch."""
    model = net()
    x, y = draw("ab", rows=11)
    y["a"][:5] = np.nan  # the first batch has no label of a
    training = lw.build_training_model(
        model, {"a": lw.BranchLoss("mse", missing="nan"), "b": "mse"}
    )
    training.compile("sgd")
    result = training.inspect(x, y, batch_size=4, steps=None)
    logs = training.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    for name, loss in result.loss.items():
        np.testing.assert_allclose(loss, logs[f"{name}_loss"], rtol=1e-6)
    alone = [
        training.inspect(x[i : i + 4], {n: v[i : i + 4] for n, v in y.items()})
        for i in (0, 4, 8)
    ]
    assert np.isnan([alone[0].loss["a"], alone[0].cosine["a"]["b"]]).all()
    norms = [one.gradient_norm["a"] for one in alone[1:]]
    np.testing.assert_allclose(result.gradient_norm["a"], np.mean(norms), rtol=1e-6)
    cosines = [one.cosine["b"]["a"] for one in alone[1:]]
    np.testing.assert_allclose(result.cosine["a"]["b"], np.mean(cosines), rtol=1e-5)
    assert training.inspect(x, y, batch_size=4, steps=2).losses.shape == (2, 2)


def test_a_loss_that_is_not_finite_is_not_hidden():
    x, y = draw("ab")
    x[0, 0] = np.nan
    result = train(net(), y).inspect(x, y, batch_size=6)
    for values in (result.loss, result.gradient_norm, result.cosine["a"]):
        assert np.isnan([*values.values()]).all()


def test_sample_weights_and_masks():
    """A branch's gradient is that of its loss as it is trained."""
    x = keras.Input((4, 3), name="x")
    hidden = layers.LSTM(5, return_sequences=True)(layers.Masking()(x))
    model = keras.Model(x, {n: layers.Dense(1, name=n)(hidden) for n in "ab"})
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4, 3)).astype("float32")
    rows[:, 2:] = 0
    y = {name: rng.normal(size=(6, 4, 1)).astype("float32") for name in "ab"}
    weight = rng.uniform(size=6).astype("float32")
    steps = np.zeros((6, 4), "float32")
    steps[:, :2] = 1.0

    def loss(name):
        def of(outputs):
            errors = ops.square(ops.subtract(outputs[name], y[name]))[..., 0]
            rows = ops.sum(errors * ops.array(steps), axis=1) / 2
            return ops.mean(rows * ops.array(weight))

        return of

    found = native.gradients(model, rows, [loss("a"), loss("b")])
    norms, cosines, _ = native.norms_and_cosines(found)
    result = train(model, y).inspect(rows, y, weight)
    np.testing.assert_allclose(numbers(result)[0], norms, rtol=1e-5)
    np.testing.assert_allclose(numbers(result)[1], cosines, atol=1e-5)


def test_every_kind_of_data():
    model = net()
    x, y = draw("ab")
    training = train(model, y)
    expected = training.inspect(x, y, batch_size=5).cosines

    def batches():
        for start in range(0, ROWS, 5):
            part = slice(start, start + 5)
            yield x[part], {name: values[part] for name, values in y.items()}

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return list(batches())[index]

    import tensorflow as tf

    for data in (
        batches(),
        Batches(),
        tf.data.Dataset.from_tensor_slices((x, y)).batch(5),
        {"x": x, "a_target": y["a"], "b_target": y["b"]},
    ):
        got = training.inspect(data, batch_size=5 if isinstance(data, dict) else None)
        np.testing.assert_allclose(got.cosines, expected, atol=1e-6)


def test_thawed_layers_count():
    model = net()
    x, y = draw("ab")
    training = train(model, y)
    model.get_layer("first").trainable = False
    assert list(training.inspect(x, y).gradient_norm_by_layer) == ["last"]
    model.get_layer("first").trainable = True
    assert list(training.inspect(x, y).gradient_norm_by_layer) == ["first", "last"]


def test_a_single_branch():
    model = net("a")
    x, y = draw("a")
    result = train(model, y).inspect(x, y)
    assert result.cosine == {"a": {"a": pytest.approx(1.0)}}
    assert "cosine" not in str(result)


@pytest.mark.parametrize("names", ["ab", "abcdef"])
def test_printed(names):
    x, y = draw(names)
    result = train(net(names), y).inspect(x, y)
    lines = str(result).splitlines()
    assert lines[0].startswith(f"{len(names)} branches at 2 shared layers with 128")
    assert [line.split()[0] for line in lines[3:]] == list(names)
    for name, line in zip(names, lines[3:], strict=True):
        assert f"{result.gradient_norm[name]:.4g}" in line
        assert f"{result.loss[name]:.4g}" in line
    if len(names) == 2:
        assert lines[3].endswith(f"{result.cosine['a']['b']:+.2f}")
    else:
        other, value = result.lowest_cosine["a"]
        assert value == min(result.cosine["a"].values())
        assert lines[3].endswith(f"{value:+.2f} with {other}")


@pytest.mark.once
def test_picture():
    names = "abcdefg"
    x, y = draw(names)
    result = train(net(names), y).inspect(x, y)
    left, right, _ = result.plot().axes
    widths = [bar.get_width() for bar in left.containers[0]]
    np.testing.assert_allclose(widths, [*result.gradient_norm.values()])
    assert [text.get_text() for text in right.get_xticklabels()] == list(names)
    np.testing.assert_allclose(right.images[0].get_array(), numbers(result)[1])


def test_bad_input():
    model = net()
    x, y = draw("ab")
    training = train(model, y)
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        training.inspect(x, y, steps=0)
    with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
        training.inspect(x, y, batch_size=0)
    with pytest.raises(ValueError, match="at least one batch"):
        training.inspect(pair for pair in [(x, y)][:0])
    with pytest.raises(ValueError, match="each of the targets"):
        training.inspect(x)
    model.get_layer("first").trainable = model.get_layer("last").trainable = False
    with pytest.raises(ValueError, match="Set `trainable = True` of a shared layer"):
        training.inspect(x, y)


def test_not_compiled_yet():
    x, y = draw("ab")
    training = lw.build_training_model(net(), dict.fromkeys(y, "mse"))
    assert set(training.inspect(x, y).to_dict()) == {"loss", "gradient_norm", "cosine"}
