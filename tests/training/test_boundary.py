"""Where branches leave what they share: found, overridden, and refused in words."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from balanced_nets import (
    LEVELS,
    NETS,
    Equal,
    data,
    dense,
    plain,
    step,
    train,
    weights_of,
)
from keras import layers

import lossweigh as lw

# For each net its boundary: the layer, and the branches that leave there.
EXPECTED = {
    "plain": {"last": "zba"},
    "two_places": {"low": "za", "high": "zb"},
    "residual": {"last": "zb"},
    "nested": {"last": "zb"},
    "partly": {"first": "a", "second": "zb"},
    "shared_output": {"z": "zb"},
    "untrained": {"last": "zb"},
    "one_head_layer": {"last": "zb"},
    "siamese": {"last": "zb"},
    "siamese_partly": {"last": "zb"},
    "indices": {"last": "zb"},
}


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:No two branches take")
@pytest.mark.parametrize("net", NETS)
def test_it_is_found(net):
    model = NETS[net]()
    before = model.get_config()
    _, y = data(model)
    training = train(model, y, lw.MGDA())
    found = {place: "".join(who) for place, who in training.boundary.items()}
    assert found == EXPECTED[net]
    assert training.prediction_model is model
    assert model.get_config() == before


def test_shared_chooses_among_the_places():
    model = NETS["two_places"]()
    _, y = data(model)
    losses = dict.fromkeys(y, "mse")
    balancer = lw.MGDA(level=lw.Representation(layers="low"))
    training = lw.build_training_model(model, losses, balancer=balancer)
    assert training.boundary == {"low": ["z", "a"]}
    balancer = lw.MGDA(level=lw.Representation(layers=["z"]))
    with pytest.raises(
        ValueError, match=r"`layers` of .* must name layers .* \['high', 'low'\]"
    ):
        lw.build_training_model(model, losses, balancer=balancer)


@keras.saving.register_keras_serializable(package="tests")
class Several(layers.Layer):
    """One layer that makes as many tensors as there are names."""

    def __init__(self, number, **kwargs):
        super().__init__(**kwargs)
        self.parts = [dense(4) for _ in range(number)]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, inputs):
        return tuple(part(inputs) for part in self.parts)


def test_a_layer_that_makes_several_tensors():
    x = keras.Input((6,), name="x")
    one, two = Several(2, name="tower")(dense(8)(x))
    both = layers.Concatenate()([one, two])
    outputs = {"z": dense(2, "z")(one), "b": dense(2, "b")(two)}
    model = keras.Model(x, {**outputs, "a": dense(2, "a")(both)})
    _, y = data(model)
    training = train(model, y, lw.UPGrad())
    assert training.boundary == {"tower": ["z", "b", "a"]}


@pytest.mark.parametrize("level", ["representation", "parameters", "calibrated"])
def test_branches_that_part_inside_a_layer(level):
    """Their gradients are at right angles by construction, but for the parameters'."""
    x = keras.Input((6,), name="x")
    one, two = Several(2, name="tower")(dense(8)(x))
    model = keras.Model(x, {"z": dense(2, "z")(one), "b": dense(2, "b")(two)})
    _, y = data(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training = train(model, y, lw.UPGrad(level=level))
    said = [str(one.message) for one in caught if "No two branches" in str(one.message)]
    assert len(said) == (level != "parameters")
    assert all("shared tensor. ['tower'] makes" in text for text in said)
    assert training.boundary == {"tower": ["z", "b"]}


def test_nothing_is_shared():
    x = keras.Input((6,), name="x")
    model = keras.Model(x, {"z": dense(2, "z")(x), "b": dense(2, "b")(x)})
    balancer = lw.MGDA()
    with pytest.raises(
        ValueError, match=r"branches \['z', 'b'\] share.* of its own only"
    ):
        lw.build_training_model(model, ["mse", "mse"], balancer=balancer)
    assert balancer.branches is None


@pytest.mark.smoke
@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_all_that_is_shared_is_frozen(level):
    """The heads train as without a balancer, until something shared is thawed."""
    moved = []
    for balancer in (None, lw.UPGrad(level=level)):
        keras.utils.set_random_seed(0)
        model = plain()
        x, y = data(model)
        for layer in model.layers[:3]:
            layer.trainable = False
        told = contextlib.nullcontext()
        if balancer is not None:
            told = pytest.warns(UserWarning, match="is frozen, so the balancer rests")
        with told as warned:
            training = train(model, y, balancer)
        assert balancer is None or len(warned) == 1
        training.fit(x, y, shuffle=False, verbose=0)
        training.compile(keras.optimizers.SGD(0.1))  # says nothing again
        training.fit(x, y, shuffle=False, verbose=0)
        moved.append(model.get_weights())
    for one, other in zip(*moved, strict=True):
        assert abs(one - other).max() < 2e-6
    assert training.boundary == {}
    assert weights_of(training).tolist() == [1, 1, 1]
    model.layers[2].trainable = True
    training.compile(keras.optimizers.SGD(0.1))
    assert training.boundary == {"last": ["z", "b", "a"]}
    training.fit(x, y, verbose=0)
    assert weights_of(training).tolist() != [1, 1, 1]
    assert abs(model.layers[2].get_weights()[0] - moved[0][2]).max() > 1e-6


def test_a_partly_frozen_trunk_is_balanced():
    model = plain()
    model.layers[1].trainable = False
    x, y = data(model)
    before = model.get_weights()
    training = train(model, y, lw.UPGrad(level="parameters"))
    training.train_on_batch(x, y)
    after = model.get_weights()
    assert (before[0] == after[0]).all()
    assert (before[2] != after[2]).any()


class Opaque(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.z, self.b = dense(4), dense(2), dense(2)

    def call(self, x):
        hidden = self.hidden(x)
        return {"z": self.z(hidden), "b": self.b(hidden)}


class OpaqueInTraining(Opaque):
    def call(self, x, training=False):
        if training:
            x = 2 * x
        return super().call(x)


class OpaqueConstant(Opaque):
    def call(self, x, training=False):
        return super().call(x * (3.0 if training else 1.0))


class OpaqueWeights(Opaque):
    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return super().call(x * self.scale)


@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_a_subclassed_model_shows_its_layers(level):
    """It is balanced as the functional model of the same layers is."""
    x, _ = data(plain())
    moved = []
    for functional in (True, False):
        keras.utils.set_random_seed(0)
        model = Opaque()
        model(x)
        prediction = model
        if functional:
            inputs = keras.Input((6,))
            prediction = keras.Model(inputs, model.call(inputs))
        y = {name: 0.5 * value + 1 for name, value in model.predict(x).items()}
        losses = {"z": "mse", "b": "mse"}
        training = lw.build_training_model(
            prediction, losses, balancer=lw.UPGrad(level=level)
        )
        training.compile(keras.optimizers.SGD(0.1))
        training.fit(x, y, shuffle=False, verbose=0)
        moved.append(model.get_weights())
        assert training.boundary == {model.hidden.name: ["z", "b"]}
    assert training.prediction_model is model
    for one, other in zip(*moved, strict=True):
        assert abs(one - other).max() < 2e-6


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OpaqueConstant, "takes other steps in training than in inference"),
        (OpaqueInTraining, "takes other steps in training than in inference"),
        (OpaqueWeights, r"No layer of its `call` shows \['.*scale'\]"),
    ],
)
def test_a_model_that_does_not_show_its_layers(kind, reason):
    model = kind()
    x, _ = data(plain())
    model(x)
    with pytest.raises(ValueError, match=f"{reason}.*as a functional model"):
        lw.build_training_model(model, {"z": "mse", "b": "mse"}, balancer=lw.MGDA())


def test_a_subclassed_model_in_a_functional_one():
    """It is one layer, heads included; the cure that the warning names is run."""
    model, inputs = Opaque(), keras.Input((6,))
    losses = {"z": "mse", "b": "mse"}
    wrapped = keras.Model(inputs, model(inputs))
    with pytest.warns(UserWarning, match="heads included, as a single layer"):
        lw.build_training_model(wrapped, losses, balancer=lw.MGDA())
    for cure in (model, keras.Model(inputs, model.call(inputs))):
        training = lw.build_training_model(cure, losses, balancer=lw.MGDA())
        assert training.boundary == {model.hidden.name: ["z", "b"]}


@pytest.mark.parametrize("level", ["representation", "parameters"])
def test_a_layer_thawed_inside_of_a_frozen_one(level):
    base = keras.Sequential([keras.Input((6,)), dense(5), dense(4)], name="base")
    x = keras.Input((6,), name="x")
    hidden = base(x)
    model = keras.Model(x, {"z": dense(2, "z")(hidden), "b": dense(2, "b")(hidden)})
    base.trainable = False
    base.layers[-1].trainable = True
    x, y = data(model)
    training = train(model, y, lw.UPGrad(level=level))
    assert training.boundary == {"base": ["z", "b"]}
    frozen, thawed = (layer.get_weights()[0] for layer in base.layers)
    training.train_on_batch(x, y)
    assert (base.layers[0].get_weights()[0] == frozen).all()
    assert (base.layers[1].get_weights()[0] != thawed).any()


def test_shared_layers_behind_layers_of_a_branch():
    """They aren't balanced, and it isn't said that there are none."""
    x = keras.Input((6,), name="x")
    last = dense(8, "last")
    one, other = last(dense(4)(x)), last(dense(4)(x))
    model = keras.Model(x, {"z": dense(2, "z")(one), "b": dense(2, "b")(other)})
    with pytest.raises(
        ValueError, match="share layers only behind layers of their own"
    ):
        lw.build_training_model(model, ["mse", "mse"], balancer=lw.MGDA())


@pytest.mark.parametrize("level", LEVELS)
def test_layers_thawed_after_the_model_is_built(level):
    """The recipe of fine-tuning: freeze, build, train, thaw, compile, train."""
    x = keras.Input((6,), name="x")
    low = dense(8, "low")
    low.trainable = False
    high = dense(8, "high")(low(x))
    both = layers.Concatenate()([low.output, high])
    model = keras.Model(x, {"z": dense(2, "z")(both), "b": dense(2, "b")(high)})
    x, y = data(model)
    start = model.get_weights()
    moved = []
    for balancer in (None, Equal(**LEVELS[level])):
        low.trainable = False
        model.set_weights(start)
        training = train(model, y, balancer)
        if balancer is not None:
            assert training.boundary == {"high": ["z", "b"]}
        training.train_on_batch(x, y)
        low.trainable = True
        training.compile(keras.optimizers.SGD(0.1))
        training.train_on_batch(x, y)
        moved.append(model.get_weights())
    assert training.boundary == {"low": ["z"], "high": ["z", "b"]}
    assert abs(moved[0][0] - start[0]).max() > 1e-3
    for one, other in zip(*moved, strict=True):
        assert abs(one - other).max() < 2e-6
    for layer in model.layers[:3]:
        layer.trainable = False
    with pytest.warns(UserWarning, match="is frozen, so the balancer rests"):
        training.compile("sgd")
    training.train_on_batch(x, y)


def test_a_model_that_was_saved_frozen(tmp_path):
    """Its balancer rests there too, until a shared layer is thawed."""
    model = plain()
    x, y = data(model)
    training = train(model, y, lw.UPGrad())
    training.fit(x, y, verbose=0)
    model.trainable = False
    training.save(tmp_path / "training.keras")
    with pytest.warns(UserWarning, match="is frozen, so the balancer rests"):
        loaded = keras.models.load_model(tmp_path / "training.keras")
    expected, found = model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    for name, values in expected.items():
        assert abs(found[name] - values).max() < 1e-6
    loaded.evaluate(x, y, verbose=0)
    assert loaded.boundary == {}
    loaded.prediction_model.trainable = True
    loaded.compile("sgd")
    assert loaded.boundary == {"last": ["z", "b", "a"]}
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize("level", LEVELS)
def test_a_shared_layer_that_assigns_its_weights(level):
    """On JAX Keras drops what it assigns, in plain training too."""
    x = keras.Input((6,), name="x")
    hidden = layers.SpectralNormalization(dense(8))(x)
    model = keras.Model(x, {"z": dense(2, "z")(hidden), "b": dense(2, "b")(hidden)})
    x, y = data(model)
    if level != "representation" and keras.backend.backend() != "jax":
        with pytest.raises(ValueError, match="leave their trainable weights to the op"):
            step(model, x, y, Equal(**LEVELS[level]))
        return
    start = [keras.ops.convert_to_numpy(v) for v in model.weights]
    lost = []
    for balancer in (None, Equal(**LEVELS[level])):
        for variable, value in zip(model.weights, start, strict=True):
            variable.assign(value)
        lost.append(step(model, x, y, balancer)[0])
    for one, other in zip(*lost, strict=True):
        assert abs(one - other).max() < 2e-6


@pytest.mark.parametrize("balancer", ["UPGrad", lw.UPGrad, lw.LossWeighter()])
def test_a_balancer_must_be_one(balancer):
    with pytest.raises(TypeError, match="`balancer` must be a lossweigh balancer"):
        lw.build_training_model(plain(), {"z": "mse", "b": "mse"}, balancer=balancer)


def test_a_balancer_belongs_to_its_branches():
    balancer = lw.UPGrad()
    lw.build_training_model(plain(), {"z": "mse", "b": "mse"}, balancer=balancer)
    with pytest.raises(ValueError, match=r"already balances the branches \['z', 'b'\]"):
        lw.build_training_model(plain(), {"z": "mse", "a": "mse"}, balancer=balancer)
    assert balancer.branches == ["z", "b"]


@pytest.mark.filterwarnings("ignore:All that the branches")
def test_a_resting_balancer_logs_1():
    """Not the weights of the last step before the layers were frozen."""
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(5, activation="tanh", name="trunk")(x)
    heads = {name: layers.Dense(2, name=name)(hidden) for name in ("a", "b")}
    model = keras.Model(x, heads)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 4)), {"a": np.ones((8, 2)), "b": np.zeros((8, 2))}
    training = lw.build_training_model(model, "mse", balancer=lw.MGDA())
    balance = []
    for trainable in (True, False, True):
        model.get_layer("trunk").trainable = trainable
        training.compile(keras.optimizers.SGD(0.1))
        logs = training.fit(*data, epochs=2, verbose=0).history
        balance.append([logs[f"{name}_balance"][-1] for name in heads])
    assert balance[1] == [1.0, 1.0]
    assert balance[0] != [1.0, 1.0]
    assert balance[2] != [1.0, 1.0]
