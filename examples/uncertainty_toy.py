"""Does uncertainty weighting learn the noise? The published toy, and its answer.

It does: in ten seeds both learned sigmas arrive at the residual root mean square, which
is 10.28 and 0.95 for the best straight line.

One input and two targets: Y1 = 2 X + 8 with noise of standard deviation 10, and
Y2 = 3 X + 3 with noise of standard deviation 1; 100 points. A network with a shared
layer and two linear heads is trained under `Uncertainty()`, which learns one
log-variance a head, s = log sigma^2, starting from sigma = 1. At its optimum
exp(s) is the head's mean squared error, so sigma = exp(s / 2) is the root mean square
(RMS) of its residuals. `weighter.sigma` is just that.

The authors' notebook prints exp(s ** 0.5) instead: 7.97 and 1.81, which is no standard
deviation. The log-variances behind those numbers mean exp(s / 2) = 8.61 and 1.19. (Its
heads end in a relu, which dies in some seeds and can't predict what is below 0; here
they are linear.)

    python examples/uncertainty_toy.py
    KERAS_BACKEND=torch python examples/uncertainty_toy.py --seeds 3
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

import lossweigh as lw

COLORS = {"y1": "#2f6fb0", "y2": "#9c3fa8"}
GREY = "#5f6368"
HEADS = list(COLORS)
STEPS = 10  # in an epoch, each of them on all points


def draw_data():
    """The points of the authors' notebook, in the order in which it draws them."""
    random = np.random.RandomState(0)
    x = random.normal(size=(100, 1))
    y1 = 2 * x + 8 + 10 * random.normal(size=(100, 1))
    y2 = 3 * x + 3 + 1 * random.normal(size=(100, 1))
    return x, {"y1": y1, "y2": y2}


def residual_rms(said, y):
    return np.array([np.sqrt(np.mean((said[head] - y[head]) ** 2)) for head in HEADS])


def least_squares(x, y):
    """The residual RMS of the best straight line, for each head."""
    line = np.hstack([x, np.ones_like(x)])
    best = {head: np.linalg.lstsq(line, y[head], rcond=None)[0] for head in HEADS}
    return residual_rms({head: line @ best[head] for head in HEADS}, y)


class Watch(keras.callbacks.Callback):
    """Sigma and residual RMS of each head, at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.sigma, self.rms = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.sigma.append(keras.ops.convert_to_numpy(self.model.weighter.sigma))
        self.rms.append([logs[f"{head}_loss"] ** 0.5 for head in HEADS])


def train(seed, x, y, epochs):
    """Returns sigma and residual RMS over the epochs, and the RMS at the end."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((1,), name="x")
    shared = layers.Dense(1024, activation="relu")(inputs)
    heads = [layers.Dense(1, name=head)(shared) for head in HEADS]
    prediction = keras.Model(inputs, dict(zip(HEADS, heads, strict=True)))
    training = lw.build_training_model(
        prediction, losses=dict.fromkeys(HEADS, "mse"), weighter=lw.Uncertainty()
    )
    training.compile(keras.optimizers.Adam(1e-3))
    watch = Watch()
    data = [np.tile(x, (STEPS, 1)), {h: np.tile(y[h], (STEPS, 1)) for h in HEADS}]
    settings = {"batch_size": len(x), "shuffle": False, "verbose": 0}
    training.fit(*data, epochs=epochs, callbacks=[watch], **settings)
    said = keras.tree.map_structure(keras.ops.convert_to_numpy, prediction(x))
    return np.array(watch.sigma), np.array(watch.rms), residual_rms(said, y)


def draw(path, curves, truth):
    """Left: sigma and RMS over training. Right: one against the other at the end."""
    figure = Figure((12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[7, 5])
    for index, (head, color) in enumerate(COLORS.items()):
        for sigma, rms, _ in curves:
            steps = STEPS * np.arange(1, len(sigma) + 1)
            (solid,) = left.plot(steps, sigma[:, index], color=color, lw=1.6)
            (dotted,) = left.plot(steps, rms[:, index], ":", color=color, lw=1.4)
            right.plot(rms[-1, index], sigma[-1, index], "o", color=color, alpha=0.5)
        solid.set_label(f"learned sigma of {head}")
        dotted.set_label(f"residual RMS of {head}")
        left.axhline(truth[index], color=GREY, lw=0.8, zorder=0)
        note = f"least squares: {truth[index]:.2f}"
        left.text(steps[-1], truth[index] * 1.03, note, color=GREY, ha="right")
        right.text(truth[index] * 1.25, truth[index] * 0.9, head, color=color, size=13)
    ends = np.array([0.6, 18.0])
    right.plot(ends, ends, color=GREY, lw=0.8, zorder=0)
    band = {"color": GREY, "alpha": 0.15, "lw": 0, "label": "within 5%"}
    right.fill_between(ends, ends * 0.95, ends * 1.05, **band)
    left.set(xlabel="training step", yscale="log", xmargin=0, title="During training")
    right.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    right.set(xlabel="residual RMS", ylabel="learned sigma", title="At the end")
    for axes, place in ((left, "center right"), (right, "upper left")):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc=place)
        axes.minorticks_off()
    for axis in (left.yaxis, right.xaxis, right.yaxis):
        axis.set_ticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=int, default=120, help="of 10 steps each")
    parser.add_argument("--short", action="store_true", help="one seed")
    parser.add_argument("--out", type=Path, default=Path("uncertainty_toy"))
    options = parser.parse_args(arguments)
    x, y = draw_data()
    truth = least_squares(x, y)
    print("seed    sigma y1   RMS y1    ratio    sigma y2   RMS y2    ratio")
    curves, ratios = [], []
    for seed in range(1 if options.short else options.seeds):
        curves.append(train(seed, x, y, options.epochs))
        sigma, rms = curves[-1][0][-1], curves[-1][2]
        ratios.append(sigma / rms)
        print(f"{seed:>4}", end="")
        for cells in zip(sigma, rms, ratios[-1], strict=True):
            print("{:>12.4f}{:>9.4f}{:>9.4f}".format(*cells), end="")
        print(flush=True)
    print("Least squares, a straight line: {:.4f} and {:.4f}".format(*truth))
    furthest = np.abs(np.array(ratios) - 1).max()
    print(f"Sigma is within {furthest:.2%} of the residual RMS.")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "uncertainty_toy.png", curves, truth)
    print(f"Written: {options.out / 'uncertainty_toy.png'}")
    return np.array(ratios), truth


if __name__ == "__main__":
    main()
