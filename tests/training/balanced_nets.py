"""Models whose branches leave what they share in different ways."""

import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw
from lossweigh.gradients.balanced import BalancedModel

ROWS = 8
LEVELS = {
    "representation": {"level": "representation"},
    "parameters": {"level": "parameters"},
    "parameters / 3": {"level": lw.Parameters(update_every=3)},
    "calibrated": {"level": lw.Calibrated(update_every=3)},
}


@keras.saving.register_keras_serializable(package="tests")
class Uneven(lw.Balancer):
    """Weights that depend on the gradients and differ from branch to branch."""

    def solve(self, gramian, present=None):
        norms = ops.sqrt(ops.diagonal(gramian))
        known = norms > 0
        rank = ops.arange(1, len(gramian.shape) and gramian.shape[0] + 1)
        weights = ops.cast(rank, "float32") / ops.where(known, norms, 1.0)
        return ops.where(known, weights, 0.0)


@keras.saving.register_keras_serializable(package="tests")
class Equal(lw.Balancer):
    """Weights of 1: plain training."""

    def solve(self, gramian, present=None):
        return ops.ones((gramian.shape[0],), dtype="float32")


def dense(size, name=None):
    return layers.Dense(size, activation="tanh", name=name)


def plain():
    x = keras.Input((6,), name="x")
    hidden = dense(8, "last")(dense(8)(x))
    return keras.Model(x, {name: dense(2, name)(hidden) for name in "zba"})


def two_places():
    """A pyramid: z takes both levels, b the upper one, a the lower one."""
    x = keras.Input((6, 6, 1), name="x")
    low = layers.Conv2D(3, 3, activation="tanh", padding="same", name="low")(x)
    high = layers.Conv2D(4, 3, 2, activation="tanh", name="high")(low)
    pool = layers.GlobalAveragePooling2D
    both = layers.Concatenate()([pool()(low), pool()(high)])
    return keras.Model(
        x,
        {
            "z": dense(2, "z")(both),
            "b": dense(2, "b")(pool()(high)),
            "a": dense(2, "a")(layers.Flatten()(low)),
        },
    )


def residual():
    """With a skip connection in the trunk, and `keras.ops` in a head."""
    x = keras.Input((6,), name="x")
    first = dense(6)(x)
    second = layers.Add(name="last")([first, dense(6)(first)])
    z = dense(2, "z")(second * 2.0)
    b = dense(2, "b")(ops.concatenate([second, x], axis=-1))
    return keras.Model(x, [z, b])


def nested():
    """The shared layers and both heads are inside a nested model."""
    inner_x = keras.Input((6,))
    hidden = dense(8, "last")(inner_x)
    inner = keras.Model(inner_x, [dense(3)(hidden), dense(3)(hidden)], name="inner")
    x = keras.Input((6,), name="x")
    one, other = inner(dense(6)(x))
    return keras.Model(x, {"z": dense(2, "z")(one), "b": dense(2, "b")(other)})


def partly():
    """A tensor that z and b share, made from one that all three share."""
    x = keras.Input((6,), name="x")
    first = dense(8, "first")(x)
    second = dense(8, "second")(first)
    return keras.Model(
        x,
        {
            "z": dense(2, "z")(second),
            "b": dense(2, "b")(second),
            "a": dense(2, "a")(first),
        },
    )


def shared_output():
    """The output z is what the head of b starts from."""
    x = keras.Input((6,), name="x")
    z = dense(2, "z")(dense(8)(x))
    return keras.Model(x, {"z": z, "b": dense(2, "b")(z)})


def untrained():
    """An output without a loss, from the shared tensor and from a head."""
    x = keras.Input((6,), name="x")
    hidden = dense(8, "last")(x)
    z, b = dense(2, "z")(hidden), dense(2, "b")(hidden)
    free = layers.Dense(2, name="free")(layers.Concatenate()([hidden, z]))
    return keras.Model(x, {"z": z, "free": free, "b": b})


def one_head_layer():
    """Both branches use one and the same layer, behind layers of their own."""
    x = keras.Input((6,), name="x")
    hidden, common = dense(8, "last")(x), dense(2, "common")
    z, b = common(dense(4)(hidden)), common(dense(4)(hidden))
    return keras.Model(x, {"z": layers.Identity(name="z")(z), "b": dense(2, "b")(b)})


def siamese():
    """One layer, on a tensor of its own for each branch."""
    x = keras.Input((6,), name="x")
    first, last = dense(4), dense(8, "last")
    one, other = last(first(x[:, :3])), last(first(2.0 * x[:, 3:]))
    return keras.Model(x, {"z": dense(2, "z")(one), "b": dense(2, "b")(other)})


def siamese_partly():
    """One layer, on a tensor for both branches and on one for the first alone."""
    x = keras.Input((6,), name="x")
    last = dense(8, "last")
    one, other = last(x[:, :3]), last(x[:, 3:])
    z = dense(2, "z")(layers.Concatenate()([one, dense(4)(other)]))
    return keras.Model(x, {"z": z, "b": dense(2, "b")(one)})


def indices():
    """Both branches also take whole numbers, through which no gradient comes."""
    x = keras.Input((6,), name="x")
    hidden = dense(8, "last")(x)
    largest = ops.argmax(hidden, axis=-1)
    outputs = {
        name: dense(2, name)(hidden + layers.Embedding(8, 8)(largest)) for name in "zb"
    }
    return keras.Model(x, outputs)


NETS = {
    net.__name__: net
    for net in (
        plain,
        two_places,
        residual,
        nested,
        partly,
        shared_output,
        untrained,
        one_head_layer,
        siamese,
        siamese_partly,
        indices,
    )
}


def data(model, rows=ROWS, seed=0):
    """x and y for a model of this file; every output is (batch, 2)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, *model.input.shape[1:])).astype("float32")
    outputs = model.output if isinstance(model.output, dict) else ["z", "b"]
    names = [name for name in outputs if name != "free"]
    scale = {"z": 3.0, "b": 0.3, "a": 1.0}
    y = {name: scale[name] * rng.normal(size=(rows, 2)) for name in names}
    return x, {name: values.astype("float32") for name, values in y.items()}


def train(
    model, y, balancer=None, weights=None, optimizer=None, loss="mse", **compiling
):
    """A compiled training model with fixed weights."""
    training = lw.build_training_model(
        model, dict.fromkeys(y, loss), lw.FixedWeights(weights), balancer
    )
    training.compile(optimizer or keras.optimizers.SGD(1.0), **compiling)
    return training


def step(model, x, y, balancer=None, weights=None, **compiling):
    """One step of plain descent: what each variable of the model lost, and the model.

    The model has its numbers back afterwards.
    """
    before = model.get_weights()
    training = train(model, y, balancer, weights, **compiling)
    training.train_on_batch(x, y)
    lost = [b - a for b, a in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    return lost, training


class Alone:
    """The gradients of each branch's own loss, each by a training of its own.

    The branches are the model's layers of their names and what those share.
    """

    def __init__(self, model, x, y):
        self.model, self.batch = model, (x, y)
        self.models = [
            train(model, y, weights=[float(name == other) for other in y]) for name in y
        ]

    def lost_since(self, before):
        """What the shared parameters lost, flat, and what each branch's layer lost."""
        pairs = zip(before, self.model.get_weights(), strict=True)
        lost = {
            variable.path: (then - now).ravel()
            for variable, (then, now) in zip(self.model.weights, pairs, strict=True)
        }
        heads = [
            np.concatenate(
                [lost.pop(v.path) for v in self.model.get_layer(name).weights]
            )
            for name in self.batch[1]
        ]
        return np.concatenate(list(lost.values())), heads

    def gradients(self):
        """`(K, N)` of the shared parameters, and each branch's of its own layer."""
        before, shared, own = self.model.get_weights(), [], []
        for index, training in enumerate(self.models):
            training.train_on_batch(*self.batch)
            trunk, heads = self.lost_since(before)
            shared.append(trunk)
            own.append(heads[index])
            self.model.set_weights(before)
        return np.array(shared), own


def balanced_layer(training):
    """The layer of a training model that keeps what its balancer finds."""
    (part,) = (part for part in training.layers if isinstance(part, BalancedModel))
    return part


def weights_of(training):
    """The balancer's weights in the last step."""
    return ops.convert_to_numpy(balanced_layer(training).loss_weights)


def state_of(training):
    """What the balancer's method and level keep, by name."""
    state = balanced_layer(training).state
    kept = {**state.method, **state.level}
    return {name: ops.convert_to_numpy(values) for name, values in kept.items()}
