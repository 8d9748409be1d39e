"""Every loss-level method, and what is true of it: the table of the contract."""

import dataclasses

import keras
import numpy as np
from keras import ops

import lossweigh as lw

LOSSES = (1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Method:
    """What the contract must know.

    Args:
        before: The total for `LOSSES` before any training.
        sums_to: What the weights sum to: "one", "number", or None.
        differentiable: The total, as a function of the losses, has `loss_weights`
            as its gradient; else the weights are constants in it.
        drops_out: With a branch absent, the total is that of the others alone.
        moves: Calls in training move its state.
        arguments: Constructor arguments that make a test repeatable or quick.
    """

    before: float
    sums_to: str | None = None
    differentiable: bool = False
    drops_out: bool = False
    moves: bool = True
    arguments: dict = dataclasses.field(default_factory=dict)


METHODS = {
    "CoVWeighting": Method(7 / 3, "one"),
    "DWA": Method(7.0, "number"),
    "FAMO": Method(1.188252, "one", drops_out=True),
    "FixedWeights": Method(7.0, moves=False, drops_out=True),
    "GeometricMean": Method(2.0, differentiable=True, drops_out=True),
    "IMTLL": Method(7.0, drops_out=True),
    "LogSum": Method(2.079442, differentiable=True, drops_out=True),
    "LossWeighter": Method(6.178476, "one", moves=False),
    "RandomWeights": Method(7 / 3, "one", arguments={"seed": 5}),
    "ReLoBRaLo": Method(7.0, "number", arguments={"seed": 5, "keep_probability": 0.5}),
    "RevisedUncertainty": Method(5.579442, drops_out=True),
    "SmoothTchebycheff": Method(1.333465, differentiable=True),
    "SoftAdapt": Method(7 / 3, "one", arguments={"window": 3}),
    "SoftOptimalUncertainty": Method(1.973416, "one", drops_out=True),
    "SumToOne": Method(6.178476, "one"),
    "Uncertainty": Method(3.5, drops_out=True),
}
RANDOM = {"RandomWeights"}


def make(name, /, **more):
    """A new weighter of the method, with the table's arguments."""
    return getattr(lw, name)(**{**METHODS[name].arguments, **more})


def rows(*values):
    """Branch losses `(2,)` with the given means and unequal samples."""
    return [ops.array([0.5 * value, 1.5 * value], "float32") for value in values]


def step(weighter, *values, training=True):
    """The total's mean for branch losses with the given means."""
    return number(ops.mean(weighter(rows(*values), training=training)))


def weights(weighter):
    return array(weighter.loss_weights)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def number(tensor):
    return float(array(tensor))


def state(weighter):
    """Every variable as it is now."""
    return {variable.path: array(variable) for variable in weighter.variables}


def drawn_losses(num_steps=4, num_branches=3, seed=0):
    """Positive losses, `(steps, K)`."""
    return np.random.default_rng(seed).uniform(0.5, 2.0, (num_steps, num_branches))


def train(weighter, losses):
    """One step for each row of losses, each of them an epoch."""
    for row in losses:
        step(weighter, *row)
        weighter.end_epoch()


def every_method_in_one(names=tuple(METHODS), **more):
    """A hand-wired model with one weighter a method over the same two losses.

    One model to trace, compile or freeze instead of sixteen. Its output is the
    sum of all the weighted losses, `(batch,)`. `more` holds further constructor
    arguments by method.
    """
    x = keras.Input((2,), name="x")
    target = keras.Input((2,), name="target")
    hidden = keras.layers.Dense(3, activation="tanh")(x)
    heads = [keras.layers.Dense(2)(hidden) for _ in range(2)]
    losses = [lw.BranchLoss("mse")([target, head]) for head in heads]
    totals = [
        make(name, name=name.lower(), **more.get(name, {}))(losses) for name in names
    ]
    total = totals[0] if len(totals) == 1 else keras.layers.add(totals)
    return keras.Model({"x": x, "target": target}, total)


def fit(model, epochs=1, callbacks=(), initial_epoch=0):
    """Trains such a model, two steps an epoch."""
    return model.fit(
        its_data(),
        np.zeros(8, "float32"),
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[lw.callbacks.AdvanceWeighters(), *callbacks],
    )


def weighters(model):
    return [layer for layer in model.layers if isinstance(layer, lw.Weighter)]


def its_data(num_rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(num_rows, 2)).astype("float32"),
        "target": rng.normal(size=(num_rows, 2)).astype("float32"),
    }
