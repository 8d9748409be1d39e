"""Burgers' equation by a network: equal weights against ConFIG, under the stock `fit`.

Training on the plain sum of three losses misses the shock for long; with ConFIG the
least error of 5,000 steps is about half as large or less, in each of three seeds.

A network u(t, x) shall start as -sin(pi x), be 0 at both ends, and obey

    u_t + u u_x = nu u_xx,    nu = 0.01 / pi,    0 <= t <= 1,    -1 <= x <= 1.

Each of the three is a branch with points of its own, drawn anew for each step. The
solution has a shock at x = 0, which training on the plain sum of the three losses is
slow to find. ConFIG combines the three gradients, so that none is worked against. The
setting is that of its paper (Liu, Chu & Thuerey, 2024). The solution is known, so the
error is read every 10 steps; training doesn't see it.

    python examples/burgers.py
    KERAS_BACKEND=jax python examples/burgers.py

It takes some five minutes; a table and a picture are written.
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

NU = 0.01 / np.pi
STEPS, EVERY = 5000, 10  # training steps, and how often the error is read
NUMBERS = {"initial": 50, "boundary": 50, "interior": 2000}  # of points in a step
METHODS = {
    "equal weights": lambda: {"weighter": lw.FixedWeights()},
    "ConFIG": lambda: {"balancer": lw.ConFIG(level="parameters")},
}
COLORS = {"start": "#2f6fb0", "ends": "#3c9d5b", "equation": "#e0812b"}
METHOD_COLORS = {"equal weights": "#5f6368", "ConFIG": "#9c3fa8"}


def exact(t, x):
    """The solution, after Cole and Hopf, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite.hermgauss(120)
    y = x[..., None] - nodes * np.sqrt(4 * NU * t[..., None])
    exponents = -np.cos(np.pi * y) / (2 * np.pi * NU)
    kernel = weights * np.exp(exponents - exponents.max(-1, keepdims=True))
    return -(np.sin(np.pi * y) * kernel).sum(-1) / kernel.sum(-1)


def grid():
    """All pairs of 100 times and the middles of 256 cells, (100, 256) each."""
    x = np.linspace(-1 + 1 / 256, 1 - 1 / 256, 256)
    return np.meshgrid(np.linspace(0, 1, 100), x, indexing="ij")


class Points(keras.utils.PyDataset):
    """New points for each step, one set of them as one row: `(1, n, 2)`.

    Args:
        steps: How many steps are an epoch.
        seed: Of the points.
    """

    def __init__(self, steps, seed):
        super().__init__()
        self.steps = steps
        random = np.random.default_rng(seed)
        self.samplers = {
            name: qmc.LatinHypercube(dimensions, rng=random)
            for name, dimensions in (("initial", 1), ("boundary", 1), ("interior", 2))
        }

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        drawn = {
            name: sampler.random(NUMBERS[name])
            for name, sampler in self.samplers.items()
        }
        x = 2 * drawn["initial"] - 1
        ends = np.where(np.arange(len(drawn["boundary"])) % 2, 1.0, -1.0)
        points = {
            "initial": np.concatenate([np.zeros_like(x), x], axis=1),
            "boundary": np.concatenate([drawn["boundary"], ends[:, None]], axis=1),
            "interior": drawn["interior"] * [1, 2] - [0, 1],
        }
        points = {name: p[None].astype("float32") for name, p in points.items()}
        return points, {"start": -np.sin(np.pi * x)[None].astype("float32")}


def build_network():
    """u(t, x): five hidden layers of 50."""
    network = keras.Sequential([keras.Input((2,))])
    for units in (50, 50, 50, 50, 50, 1):
        dense = layers.Dense(
            units,
            activation="tanh" if units > 1 else None,
            # Glorot's, which Keras would truncate.
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, mode="fan_avg", distribution="untruncated_normal"
            ),
            bias_initializer=keras.initializers.Constant(0.001),
        )
        network.add(dense)
    return network


def build_model(network, rows=False):
    """The model of three inputs of points and what is to be 0, or known, at each.

    Args:
        network: u(t, x).
        rows: Whether each point is a row of a batch; else a row is a set of points.
    """
    shape = (2,) if rows else (None, 2)
    points = {name: keras.Input(shape, name=name) for name in NUMBERS}
    u = lw.layers.Derivatives(network, variables=["t", "x"], outputs=["u"])
    at = u(points["interior"], ["u", "u_t", "u_x", "u_xx"])
    residual = at["u_t"] + at["u"] * at["u_x"] - NU * at["u_xx"]
    outputs = {
        "start": u(points["initial"], ["u"])["u"],
        "ends": u(points["boundary"], ["u"])["u"],
        "equation": residual,
    }
    return keras.Model(points, outputs)


@keras.saving.register_keras_serializable()
def square(residual):
    return ops.square(residual)


def losses():
    return {
        "start": "mse",
        "ends": lw.TargetFreeLoss(square),
        "equation": lw.TargetFreeLoss(square),
    }


class Error(keras.callbacks.Callback):
    """Reads the mean squared error of the network after some epochs.

    Args:
        network: What is trained.
        solution: (100, 256), on `grid()`.
        bar: A progress bar.
        every: How many epochs.
        steps: Steps of an epoch.
    """

    def __init__(self, network, solution, bar, every=1, steps=EVERY):
        super().__init__()
        self.network, self.solution, self.bar = network, solution, bar
        self.every, self.steps = every, steps
        self.points = np.stack(grid(), axis=-1).reshape(-1, 2).astype("float32")
        self.errors = []

    def read(self):
        said = self.network.predict(self.points, batch_size=25600, verbose=0)
        return said.reshape(self.solution.shape)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        # Through `self.model`: on JAX this brings the state to the variables.
        self.model.loss_weights  # noqa: B018
        self.errors.append(float(np.mean((self.read() - self.solution) ** 2)))
        self.bar.add(self.every * self.steps, [("error", self.errors[-1])])


def train(method, seed, steps, solution, bar):
    """Trains one network.

    Returns:
        Its last solution, the errors every 10 steps, and the History.
    """
    keras.utils.set_random_seed(seed)
    network = build_network()
    training = lw.build_training_model(build_model(network), losses(), **method())
    training.compile(keras.optimizers.Adam(1e-4))
    error = Error(network, solution, bar)
    history = training.fit(
        Points(EVERY, seed), epochs=steps // EVERY, callbacks=[error], verbose=0
    )
    return error.read(), error.errors, history.history


def averaged(steps, values, most=100):
    """Means of neighbours, so that at most so many are left."""
    size = -(-len(steps) // most)
    of_both = np.array([steps, values])[:, : len(steps) // size * size]
    return of_both.reshape(2, -1, size).mean(axis=-1)


def draw(path, solution, results):
    """Above the solutions; below the errors and the weights of the gradients."""
    figure = Figure((9, 6), layout="constrained")
    above, below = figure.subfigures(2, 1)
    shown = {"the solution": solution} | {
        n: found for n, (found, *_) in results.items()
    }
    for axes, (name, values) in zip(
        above.subplots(1, 3, sharey=True), shown.items(), strict=True
    ):
        image = axes.imshow(
            values.T,
            extent=(0, 1, -1, 1),
            aspect="auto",
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            origin="lower",
        )
        axes.set(title=name, xlabel="t")
    above.axes[0].set_ylabel("x")
    above.colorbar(image, ax=above.axes, label="u")
    left, right = below.subplots(1, 2)
    for name, (_, errors, history) in results.items():
        steps = EVERY * np.arange(1, len(errors) + 1)
        left.semilogy(steps, errors, color=METHOD_COLORS[name], label=name)
        if "start_balance" in history:
            for branch, color in COLORS.items():
                of_steps, means = averaged(steps, history[f"{branch}_balance"])
                right.plot(of_steps, means, color=color, label=branch)
    left.set(xlabel="training step", ylabel="mean squared error", xmargin=0)
    right.set(xlabel="training step", ylabel="ConFIG's weight", xmargin=0)
    right.set_yscale("symlog", linthresh=1)  # some are below 0
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncol=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="50 steps")
    parser.add_argument("--out", type=Path, default=Path("burgers"))
    options = parser.parse_args(arguments)
    steps = 50 if options.short else options.steps
    solution = exact(*grid())
    results = {}
    bar = keras.utils.Progbar(
        steps * len(METHODS), unit_name="step", stateful_metrics=["error"]
    )
    for name, method in METHODS.items():
        results[name] = train(method, options.seed, steps, solution, bar)
    print(f"\n{'mean squared error':<20}{'least':>10}{'at step':>10}{'last':>10}")
    for name, (_, errors, _) in results.items():
        best = int(np.argmin(errors))
        least, step = errors[best], EVERY * (best + 1)
        print(f"{name:<20}{least:>10.4f}{step:>10}{errors[-1]:>10.4f}")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "burgers.png", solution, results)
    print(f"Written: {options.out / 'burgers.png'}")
    return {name: min(errors) for name, (_, errors, _) in results.items()}


if __name__ == "__main__":
    main()
