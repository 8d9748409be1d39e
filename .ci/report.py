"""Makes a report of `compare` that the browser looks at: many branches, long names.

    python .ci/report.py FOLDER

FOLDER is made, and gets the report as `index.html`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import lossweigh as lw

TARGETS = ("size", "price", "a_branch_with_quite_a_long_name_0123456789")


class Broken(lw.FixedWeights):
    """Fails with a long reason."""

    def combine(self, losses, labelled, training):
        raise ValueError("This weighter can't weigh " + ", ".join(TARGETS) + ".")


def build():
    x = keras.Input((4,))
    shared = keras.layers.Dense(8, activation="tanh")(x)
    heads = {name: keras.layers.Dense(1, name=name)(shared) for name in TARGETS}
    return keras.Model(x, heads), dict.fromkeys(TARGETS, "mse")


def rows(seed):
    x = np.random.default_rng(seed).normal(size=(64, 4)).astype("float32")
    sums = np.tanh(x[:, :1] - x[:, 1:2]), 30 * np.tanh(x[:, 2:3]), x[:, 3:]
    return x, dict(zip(TARGETS, sums, strict=True))


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("folder", type=Path)
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)
candidates = {
    "fixed": lw.RandomSearch(3),
    "RevisedUncertainty with a long name": lw.RevisedUncertainty(),
    "broken": Broken(),
}
comparison = lw.compare(
    build,
    {"train": rows(0), "validation": rows(1), "test": rows(2)},
    candidates,
    metric=dict.fromkeys(TARGETS, "mae"),
    seeds=3,
    budget=3,
    learning_rates=[0.01],
)
comparison.to_html(folder / "index.html")
