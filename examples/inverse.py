"""Which coefficient? A Helmholtz equation found from noisy measurements.

ConFIG finds the coefficient to within 0.4%, in three seeds, and equal weights miss it
by more than 60%: their field obeys the equation and isn't the measured one.

A field u(x, y) obeys u_xx + u_yy + c u = 0 on the unit square, with c unknown. 200
sensors measure it with 1% of noise. A network learns the field from the measurements,
and is to obey the equation at 1,000 other points in each step. The coefficient is a
weight of a layer, trained with the network. So there are two branches: the measurements
and the equation, whose losses differ by more than a factor of 1,000 at the start.

    python examples/inverse.py

It takes about two minutes; a table and a picture are written.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure
from scipy.stats import qmc

import lossweigh as lw

TRUE = 5 * np.pi**2  # of sin(pi x) sin(2 pi y)
FIRST = 20.0  # where the search for it begins
STEPS, SENSORS, POINTS, NOISE, AN_EPOCH = 5000, 200, 1000, 0.01, 50
METHODS = {
    "equal weights": lambda: {"weighter": lw.FixedWeights()},
    "ConFIG": lambda: {"balancer": lw.ConFIG(level="parameters")},
}
COLORS = {"equal weights": "#5f6368", "ConFIG": "#9c3fa8"}


def field(points):
    return np.sin(np.pi * points[:, :1]) * np.sin(2 * np.pi * points[:, 1:])


@keras.saving.register_keras_serializable()
class Coefficient(layers.Layer):
    """Multiplies by a number greater than 0, which is trained: `first * exp(weight)`.

    Args:
        first: Where it starts.
    """

    def __init__(self, first, **kwargs):
        super().__init__(**kwargs)
        self.first = first

    def build(self, shape):
        self.weight = self.add_weight(name="logarithm", shape=(), initializer="zeros")

    def call(self, values):
        return self.first * ops.exp(self.weight) * values

    def get_config(self):
        return {**super().get_config(), "first": self.first}

    @property
    def value(self):
        return self.first * float(np.exp(ops.convert_to_numpy(self.weight)))


@keras.saving.register_keras_serializable()
def square(residual):
    return ops.square(residual)


class Points(keras.utils.PyDataset):
    """All sensors in each step, and new points for the equation; a set is one row."""

    def __init__(self, seed):
        super().__init__()
        random = np.random.default_rng(seed)
        self.sampler = qmc.LatinHypercube(2, rng=random)
        self.sensors = random.random((SENSORS, 2))
        clean = field(self.sensors)
        self.measured = clean + NOISE * clean.std() * random.normal(size=clean.shape)

    def __len__(self):
        return AN_EPOCH

    def __getitem__(self, index):
        arrays = self.sensors, self.sampler.random(POINTS), self.measured
        sensors, inside, measured = (a[None].astype("float32") for a in arrays)
        return {"sensors": sensors, "inside": inside}, {"measured": measured}


def build_model(coefficient):
    network = keras.Sequential([keras.Input((2,))])
    for _ in range(3):
        network.add(layers.Dense(32, activation="tanh"))
    network.add(layers.Dense(1))
    u = lw.layers.Derivatives(network, variables=["x", "y"], outputs=["u"])
    points = {name: keras.Input((None, 2), name=name) for name in ("sensors", "inside")}
    at = u(points["inside"], ["u", "u_xx", "u_yy"])
    return keras.Model(
        points,
        {
            "measured": u(points["sensors"], ["u"])["u"],
            "equation": at["u_xx"] + at["u_yy"] + coefficient(at["u"]),
        },
    )


class Watch(keras.callbacks.Callback):
    """Notes the coefficient after each epoch."""

    def __init__(self, coefficient, bar):
        super().__init__()
        self.coefficient, self.bar, self.values = coefficient, bar, []

    def on_epoch_end(self, epoch, logs=None):
        # Through `self.model`: on JAX this brings the state to the variables.
        self.model.loss_weights  # noqa: B018
        self.values.append(self.coefficient.value)
        self.bar.add(AN_EPOCH, [("coefficient", self.values[-1])])


def train(method, seed, steps, bar):
    """The coefficient after each epoch."""
    keras.utils.set_random_seed(seed)
    coefficient = Coefficient(FIRST)
    losses = {"measured": "mse", "equation": lw.TargetFreeLoss(square)}
    training = lw.build_training_model(build_model(coefficient), losses, **method())
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    training.compile(keras.optimizers.Adam(rate))
    watch = Watch(coefficient, bar)
    settings = {"epochs": steps // AN_EPOCH, "callbacks": [watch], "verbose": 0}
    training.fit(Points(seed), **settings)
    return watch.values


def draw(path, results):
    figure = Figure((7.5, 4), layout="constrained")
    axes = figure.subplots()
    for name, runs in results.items():
        for seed, values in enumerate(runs):
            steps = AN_EPOCH * np.arange(1, len(values) + 1)
            label = name if seed == 0 else None
            axes.plot(steps, values, color=COLORS[name], alpha=0.8, label=label)
    axes.axhline(TRUE, color="black", lw=0.8, ls="--", label="the true coefficient")
    axes.set(xlabel="training step", ylabel="coefficient", xmargin=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ...")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--short", action="store_true", help="one seed, 100 steps")
    parser.add_argument("--out", type=Path, default=Path("inverse"))
    options = parser.parse_args(arguments)
    seeds, steps = (1, 100) if options.short else (options.seeds, options.steps)
    bar = keras.utils.Progbar(
        steps * seeds * len(METHODS),
        unit_name="step",
        stateful_metrics=["coefficient"],
    )
    results = {
        name: [train(method, seed, steps, bar) for seed in range(seeds)]
        for name, method in METHODS.items()
    }
    print(f"\nThe true coefficient is {TRUE:.2f}.")
    for name, runs in results.items():
        shown = ", ".join(f"{r[-1]:.2f} ({r[-1] / TRUE - 1:+.1%})" for r in runs)
        print(f"{name:<16}{shown}")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "inverse.png", results)
    print(f"Written: {options.out / 'inverse.png'}")
    return {name: [run[-1] for run in runs] for name, runs in results.items()}


if __name__ == "__main__":
    main()
