"""Behind heads of one `Dense` layer nothing changes but what a step costs."""

import keras
import numpy as np
import pytest
from balanced_nets import (
    LEVELS,
    NETS,
    Uneven,
    balanced_layer,
    data,
    dense,
    plain,
    step,
    train,
    weights_of,
)
from keras import layers, ops

import lossweigh as lw
from lossweigh.gradients import boundary
from lossweigh.gradients.dense_heads import DenseHeads

BACKEND = keras.backend.backend()


def heads_of_one(training):
    """The names of the `Dense` layers, by the layer whose output they take."""
    parts = balanced_layer(training).cut
    return {
        name: [layer.name for layer in exit.layers]
        for name, exit in zip(parts.layers, parts.exits.exits, strict=True)
        if isinstance(exit, DenseHeads)
    }


def uneven():
    """Heads of several sizes, activations and constraints; one is frozen."""
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    z = layers.Dense(2, name="z", kernel_regularizer="l2", use_bias=False)(hidden)
    b = layers.Dense(1, "sigmoid", name="b", kernel_constraint="non_neg")(hidden)
    a = layers.Dense(2, keras.ops.tanh, name="a", trainable=False)(hidden)
    return keras.Model(x, {"z": z, "b": layers.Flatten()(b) * ops.ones((1, 2)), "a": a})


def steps_of_time():
    """Heads for each step of a sequence, behind layers that start a mask."""
    x = keras.Input((6, 1), name="x")
    hidden = layers.Masking(name="masked")(x)
    hidden = layers.LSTM(12, return_sequences=True, name="last")(hidden)
    heads = {name: layers.Dense(2, name=f"to_{name}")(hidden) for name in "zb"}
    pool = layers.GlobalAveragePooling1D
    return keras.Model(x, {k: pool(name=k)(head) for k, head in heads.items()})


def beside_others():
    """All take the lower tensor by `Dense`; only one of two does with the upper."""
    x = keras.Input((6,), name="x")
    low = dense(16, "low")(x)
    high = dense(16, "high")(low)
    return keras.Model(
        x,
        {
            "z": layers.Add(name="z")(
                [dense(2, "low_z")(low), dense(2, "high_z")(high)]
            ),
            "b": layers.Add(name="b")(
                [dense(2, "low_b")(low), dense(2)(layers.LayerNormalization()(high))]
            ),
        },
    )


def inside():
    """The shared layers and both heads are inside a nested model."""
    inner_x = keras.Input((6,))
    hidden = dense(16, "last")(inner_x)
    both = [dense(2, f"to_{name}")(hidden) for name in "zb"]
    inner = keras.Model(inner_x, both, name="inner")
    x = keras.Input((6,), name="x")
    z, b = inner(dense(6)(x))
    return keras.Model(x, {"z": z, "b": dense(2, "b")(b)})


def one_unit_each():
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    heads = {name: layers.Dense(1, name=f"to_{name}")(hidden) for name in "zba"}
    return keras.Model(x, {k: twice(head) for k, head in heads.items()})


def one_unit_of_some():
    """Behind the upper tensor; a third branch leaves the lower one."""
    x = keras.Input((6,), name="x")
    low = dense(16, "low")(x)
    high = dense(16, "high")(low)
    heads = {k: twice(layers.Dense(1, name=f"to_{k}")(high)) for k in "zb"}
    heads["a"] = dense(2, "a")(layers.LayerNormalization()(low))
    return keras.Model(x, heads)


def one_unit_a_step():
    x = keras.Input((6, 1), name="x")
    hidden = layers.LSTM(12, return_sequences=True, name="last")(x)
    heads = {name: layers.Dense(1, name=f"to_{name}")(hidden) for name in "zb"}
    pool = layers.GlobalAveragePooling1D
    return keras.Model(x, {k: twice(pool()(head)) for k, head in heads.items()})


def twice(tensor):
    return layers.Flatten()(tensor) * ops.ones((1, 2))


def pixels():
    """Convolutions of size 1, whose kernels have two axes more."""
    x = keras.Input((6, 6, 1), name="x")
    hidden = layers.Conv2D(12, 3, activation="tanh", padding="same", name="last")(x)
    sizes = {"z": 2, "b": 1, "a": 2}
    heads = {
        k: layers.Conv2D(units, 1, activation="tanh", name=f"to_{k}")(hidden)
        for k, units in sizes.items()
    }
    pool = layers.GlobalAveragePooling2D
    pooled = {k: pool()(head) for k, head in heads.items()}
    return keras.Model(x, {k: p if k != "b" else twice(p) for k, p in pooled.items()})


def places():
    """One unit each, of a volume."""
    x = keras.Input((6, 1), name="x")
    hidden = layers.Reshape((3, 2, 1, 1))(x)
    hidden = layers.Conv3D(8, 2, activation="tanh", padding="same", name="last")(hidden)
    heads = {k: layers.Conv3D(1, 1, name=f"to_{k}")(hidden) for k in "zb"}
    pool = layers.GlobalAveragePooling3D
    return keras.Model(x, {k: twice(pool()(head)) for k, head in heads.items()})


def adapted():
    """With a low-rank adapter in the head of z."""
    model = plain()
    model.get_layer("z").enable_lora(1)
    model.get_layer("z").lora_kernel_b.assign(np.ones((1, 2)))
    return model


def probabilities():
    """The loss of these goes back to the logits, where the backend keeps them."""
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    sure = keras.initializers.RandomNormal(stddev=20.0, seed=1)
    heads = {
        name: layers.Dense(2, "softmax", kernel_initializer=sure, name=name)(hidden)
        for name in "zb"
    }
    return keras.Model(x, heads)


FOUND = {
    plain: {"last": ["z", "b", "a"]},
    uneven: {"last": ["z", "b", "a"]},
    steps_of_time: {"last": ["to_z", "to_b"]},
    beside_others: {"low": ["low_z", "low_b"]},
    inside: {"last": ["to_z", "to_b"]},
    one_unit_each: {"last": ["to_z", "to_b", "to_a"]},
    one_unit_of_some: {"high": ["to_z", "to_b"]},
    one_unit_a_step: {"last": ["to_z", "to_b"]},
    pixels: {"last": ["to_z", "to_b", "to_a"]},
    places: {"last": ["to_z", "to_b"]},
    adapted: {"last": ["z", "b", "a"]},
    probabilities: {"last": ["z", "b"]},
    NETS["partly"]: {"first": ["a"], "second": ["z", "b"]},
    NETS["untrained"]: {"last": ["z", "b"]},
}


def of_name(net):
    return net.__name__


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("net", FOUND, ids=of_name)
def test_what_is_not_written_out(net):
    model = net()
    _, y = data(model)
    assert heads_of_one(train(model, y, lw.UPGrad())) == FOUND[net]


def both_ways(monkeypatch, found):
    """The layers to find: as things are, then with nothing left a product."""
    yield found
    monkeypatch.setattr(boundary, "FACTORED", ())
    yield {}


class GradDrop(lw.GradDrop):
    """A user's own, which changes nothing that matters here; the same draws always."""

    def __init__(self):
        super().__init__(seed=3)


def annealing():
    """What one step finds, nearly whole."""
    return lw.LearningRateAnnealing(momentum=0.1)


# `test_balanced.py` compares the other two with one pass for each branch.
COMPARED = [(net, lw.UPGrad) for net in FOUND if net.__name__ not in NETS]
COMPARED += [(plain, lw.UPGrad), (plain, lw.NormBalancer)]
# Those that look at elements, behind layers of one unit.
COMPARED += [
    (net, method)
    for net in (one_unit_each, one_unit_of_some, one_unit_a_step, places)
    for method in (GradDrop, annealing)
]


@pytest.mark.parametrize(("net", "method"), COMPARED, ids=of_name)
def test_as_with_the_gradients_written_out(net, method, monkeypatch):
    """The same weights, and the same loss of every variable, in one step."""
    model = net()
    x, y = data(model)
    loss = "mse"
    if net is probabilities:
        loss = "categorical_crossentropy"
        y = {name: np.eye(2)[values.argmax(-1)] for name, values in y.items()}
    if net is steps_of_time:
        x[:, 4:] = 0.0
    runs = []
    for expected in both_ways(monkeypatch, FOUND[net]):
        lost, training = step(model, x, y, method(), loss=loss)
        assert heads_of_one(training) == expected
        runs.append([weights_of(training), *lost])
    names = ["weights", *(variable.path for variable in model.weights)]
    for name, one, other in zip(names, *runs, strict=True):
        one, other = map(ops.convert_to_numpy, (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("net", "level", "bad"),
    [
        *((plain, level, np.inf) for level in LEVELS if "rep" not in level),
        (plain, "calibrated", None),
        (beside_others, "calibrated", np.inf),
        (beside_others, "parameters / 3", None),
        (steps_of_time, "parameters", None),
        (steps_of_time, "calibrated", np.inf),
    ],
)
def test_at_the_other_levels(net, level, bad, monkeypatch):
    """Steps with an exact pass and without, with a branch that isn't finite too."""
    model = net()
    x, y = data(model)
    start = model.get_weights()
    runs = []
    for expected in both_ways(monkeypatch, FOUND[net]):
        model.set_weights(start)
        balancer = Uneven(**LEVELS[level])
        training = train(model, y, balancer, optimizer=keras.optimizers.SGD(0.1))
        assert heads_of_one(training) == expected
        found = []
        for index in range(5):
            spoilt = bad is not None and index in (1, 3)  # kept weights, an exact pass
            # The head of a branch that isn't finite is the optimizer's to look after.
            heads = [model.get_layer(n).get_weights() for n in heads_of(model)]
            given = {**y, "z": np.full_like(y["z"], bad)} if spoilt else y
            training.train_on_batch(x, given)
            if spoilt:
                for name, values in zip(heads_of(model), heads, strict=True):
                    model.get_layer(name).set_weights(values)
            found.append(weights_of(training))
            found += model.get_weights()
        runs.append(found)
    for one, other in zip(*runs, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


def heads_of(model):
    """The names of its layers that only `z` depends on."""
    own = [layer.name for layer in model.layers if layer.weights]
    return [name for name in ("z", "low_z", "high_z", "to_z") if name in own]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("last", ["float32", None])
def test_in_half_precision(policy, last, monkeypatch):
    """Heads in float32 on a trunk in half precision too, as is usual."""
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((6,), name="x")
        hidden = dense(16, "last")(dense(16)(x))
        heads = {n: layers.Dense(2, name=n, dtype=last)(hidden) for n in ("z", "b")}
        model = keras.Model(x, heads)
        x, y = data(model)
        start = model.get_weights()
        runs = []
        for expected in both_ways(monkeypatch, {"last": ["z", "b"]}):
            model.set_weights(start)
            training = train(model, y, lw.UPGrad(), optimizer=keras.optimizers.SGD(0.1))
            assert heads_of_one(training) == expected
            for _ in range(4):
                training.train_on_batch(x, y)
            runs.append([weights_of(training), *model.get_weights()])
        moved = max(abs(a - b).max() for a, b in zip(start, runs[0][1:], strict=True))
        assert moved > 0.05
        for one, other in zip(*runs, strict=True):
            np.testing.assert_allclose(
                *map(ops.convert_to_numpy, (one, other)), atol=0.02
            )
    finally:
        keras.config.set_dtype_policy("float32")


class Own(layers.Dense):
    """A user's own, whose `call` may do anything."""


class Mixing(lw.UPGrad):
    """A user's own, which adds up in its own way."""

    def combine(self, site, weights, noise=None):
        return super().combine(site, weights, noise)


class MixingByElement(lw.GradDrop):
    """A user's own, which looks at elements in its own way."""

    def combine(self, site, weights, noise=None):
        return super().combine(site, weights, noise)


def two_heads(layer=layers.Dense, units=2, **arguments):
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    heads = {n: layer(units, name=n, **arguments)(hidden) for n in ("z", "b")}
    return keras.Model(x, heads)


def of_pixels(**arguments):
    """Convolutions that aren't a `Dense` layer of the channels."""
    x = keras.Input((6, 6, 1), name="x")
    hidden = layers.Conv2D(12, 3, padding="same", name="last")(x)
    given = {"filters": 2, "kernel_size": 1, **arguments}
    pool = layers.GlobalAveragePooling2D
    heads = {k: pool(name=k)(layers.Conv2D(**given)(hidden)) for k in "zb"}
    return keras.Model(x, heads)


def own_use_of_the_tensor():
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    z, b = layers.Dense(2)(hidden), layers.Dense(2, name="b")(hidden)
    z = layers.Concatenate(name="z")([z, hidden])
    return keras.Model(x, {"z": z, "b": b})


def mixed_dtypes():
    x = keras.Input((6,), name="x")
    hidden = dense(16, "last")(x)
    z = layers.Dense(2, name="z", dtype="float32")(hidden)
    return keras.Model(
        x, {"z": z, "b": layers.Dense(2, name="b", dtype="mixed_bfloat16")(hidden)}
    )


@pytest.mark.parametrize(
    ("model", "balancer"),
    [
        (lambda: two_heads(Own), lw.UPGrad),
        (lambda: two_heads(activity_regularizer="l2"), lw.UPGrad),
        (lambda: two_heads(units=8), lw.UPGrad),
        (lambda: of_pixels(kernel_size=2), lw.UPGrad),
        (lambda: of_pixels(strides=2), lw.UPGrad),
        (lambda: of_pixels(groups=2), lw.UPGrad),
        (own_use_of_the_tensor, lw.UPGrad),
        (mixed_dtypes, lw.UPGrad),
        (NETS["shared_output"], lw.UPGrad),
        (two_heads, Mixing),
        (two_heads, MixingByElement),
        (two_heads, lw.GradDrop),
        (two_heads, lw.LearningRateAnnealing),
    ],
)
def test_what_is_written_out(model, balancer):
    training = lw.build_training_model(
        model(), {"z": "mse", "b": "mse"}, balancer=balancer()
    )
    assert heads_of_one(training) == {}


def test_one_that_is_not_finite_leaves_the_others_balanced():
    """The weights of the finite branches move on, where few share a tensor too."""
    model = NETS["partly"]()
    x, y = data(model)
    training = train(model, y, lw.UPGrad(), optimizer=keras.optimizers.SGD(0.01))
    training.train_on_batch(x, y)
    before = weights_of(training)
    trunk = model.get_layer("second").get_weights()[0]
    bad = {**y, "b": np.full_like(y["b"], 1e30)}  # its square overflows
    for _ in range(2):
        training.train_on_batch(x, bad)
    after = weights_of(training)
    place = list(y).index("b")
    assert after[place] == before[place]
    assert (np.delete(after, place) != np.delete(before, place)).any()
    moved = model.get_layer("second").get_weights()[0]
    assert np.isfinite(moved).all()
    assert abs(moved - trunk).max() > 0


def test_quantized_afterwards():
    model = two_heads()
    x, y = data(model)
    training = train(model, y, lw.UPGrad())
    model.get_layer("z").quantize("int8")
    with pytest.raises(ValueError, match="`quantize` must be called before"):
        training.train_on_batch(x, y)
    again = train(model, y, lw.UPGrad())
    assert heads_of_one(again) == {}
