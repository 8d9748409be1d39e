"""A training loop of your own, with a balancer: the step is Keras's optimizer's.

A loop of ten lines, on each backend, ends with the weights of `train_on_batch`, but for
rounding.

Two numbers are predicted by a network that shares a layer; their losses differ by a
factor of 100. The same 200 steps are taken by `train_on_batch` and by a loop that is
written out for TensorFlow, JAX and torch. Both give the same weights.

What makes the loop right is its last line:
`training.optimizer.apply(gradients, training.trainable_variables)`. A balancer's state
is among these variables, and its "gradient" is its next value, which a Keras optimizer
writes as it is. Another optimizer would descend on it: the training model refuses that
in the next step.

    KERAS_BACKEND=torch python examples/own_training_loop.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure

import lossweigh as lw


def build_training():
    """A model of two outputs, balanced by GradNorm, compiled with SGD."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    hidden = layers.Dense(16, activation="tanh")(x)
    outputs = {name: layers.Dense(1, name=name)(hidden) for name in ("small", "large")}
    training = lw.build_training_model(
        keras.Model(x, outputs),
        {"small": "mse", "large": "mse"},
        balancer=lw.GradNorm(),
    )
    training.compile(keras.optimizers.SGD(0.01))
    return training


def draw_batches(number, seed=0):
    """Batches of all the training model's inputs: x and the targets."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        x = random.normal(size=(32, 8)).astype("float32")
        small = np.sin(x[:, :1])
        yield {"x": x, "small_target": small, "large_target": 10 * x[:, 1:2] * small}


def step_of_tensorflow(training, batch):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = ops.mean(training(batch, training=True)["weighted_loss"])
    variables = training.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    training.optimizer.apply(gradients, variables)
    return loss


def step_of_torch(training, batch):
    import torch

    training.zero_grad()
    loss = ops.mean(training(batch, training=True)["weighted_loss"])
    loss.backward()
    variables = training.trainable_variables
    with torch.no_grad():
        gradients = [variable.value.grad for variable in variables]
        training.optimizer.apply(gradients, variables)
    return loss


def step_of_jax(training, batch):
    import jax

    variables = training.trainable_variables
    frozen = [variable.value for variable in training.non_trainable_variables]

    def loss_of(values):
        outputs, _ = training.stateless_call(values, frozen, batch, training=True)
        return ops.mean(outputs["weighted_loss"])

    values = [variable.value for variable in variables]
    loss, gradients = jax.value_and_grad(loss_of)(values)
    training.optimizer.apply(gradients, variables)
    return loss


STEPS = {"tensorflow": step_of_tensorflow, "torch": step_of_torch, "jax": step_of_jax}


def draw(path, losses, weights):
    """The losses of both ways, and the weights of the gradients."""
    figure = Figure((7, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    ours, theirs = np.transpose(losses)
    above.plot(ours, color="#2f6fb0", lw=2.5, alpha=0.5, label="this loop")
    above.plot(theirs, ":", color="black", label="train_on_batch")
    above.set_ylabel("loss")
    for name, values in zip(("small", "large"), np.transpose(weights), strict=True):
        below.plot(values, label=name)
    below.set(xlabel="training step", ylabel="GradNorm's weight", xmargin=0)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    """Trains both ways; returns the largest difference of their weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a tenth of the steps")
    parser.add_argument("--out", type=Path, default=Path("own_training_loop"))
    options = parser.parse_args(arguments)
    number = 20 if options.short else 200
    step = STEPS[keras.backend.backend()]
    ours, theirs = build_training(), build_training()
    losses, weights = [], []
    for index, batch in enumerate(draw_batches(number)):
        tensors = {name: ops.convert_to_tensor(part) for name, part in batch.items()}
        loss = float(ops.convert_to_numpy(step(ours, tensors)))
        logs = theirs.train_on_batch(batch, return_dict=True)
        losses.append((loss, logs["loss"]))
        weights.append([*ours.balance.values()])
        if index % (number // 4) == 0:
            print(f"step {index:3d}: loss {loss:7.3f}")
    pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
    apart = max(float(np.abs(one - other).max()) for one, other in pairs)
    small, large = weights[-1]
    print(f"weights of the gradients: small {small:.2f}, large {large:.2f}")
    print(f"The loop and `train_on_batch` differ by at most {apart:.0e}.")
    draw(options.out / "own_training_loop.png", losses, weights)
    print(f"Written: {options.out / 'own_training_loop.png'}")
    return apart


if __name__ == "__main__":
    main()
