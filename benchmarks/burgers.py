"""Burgers' equation: weightings and weights of points, three seeds fixed beforehand.

    KERAS_BACKEND=jax python benchmarks/burgers.py

Trains the network of `examples/burgers.py` for 5,000 steps with each method, and reads
the mean squared error every 10 steps, against the reference solution of the repository
tum-pbs/ConFIG that its paper used. Published there: equal weights 0.0310, ConFIG 0.0064
(least over all steps). `results/burgers.json` keeps all, and runs that are in there
aren't repeated.

The two rows with weights of points train on 10,000 fixed points in batches of 2,000
rows; a row has a point at the start, one at an end and one inside.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import data_files
import keras
import numpy as np
from keras import ops
from scipy.stats import qmc

import lossweigh as lw

EXAMPLE = Path(__file__).parents[1] / "examples" / "burgers.py"
PATH = Path(__file__).parent / "results" / "burgers.json"
SEEDS, STEPS, POINTS, BATCH = (0, 1, 2), 5000, 10_000, 2_000
PARAMETERS = "parameters"
METHODS = {
    "equal weights": lambda: {"weighter": lw.FixedWeights()},
    "ConFIG": lambda: {"balancer": lw.ConFIG(level=PARAMETERS)},
    "LearningRateAnnealing": lambda: {
        "balancer": lw.LearningRateAnnealing(reference="equation", level=PARAMETERS)
    },
    "NormBalancer": lambda: {"balancer": lw.NormBalancer(level=PARAMETERS)},
    "ReLoBRaLo": lambda: {"weighter": lw.ReLoBRaLo(seed=0)},
    "Uncertainty": lambda: {"weighter": lw.Uncertainty()},
}
CONES = {  # of two branches: the equation, and start and ends together
    f"DualCone, {variant}": lambda variant=variant: {
        "balancer": lw.DualCone(variant=variant, level=PARAMETERS)
    }
    for variant in ("center", "average", "projection")
}
FIXED_POINTS = {
    "equal weights, fixed points": lambda: None,
    "ResidualAttention": lambda: lw.points.ResidualAttention(POINTS),
    "SelfAdaptive": lambda: lw.points.SelfAdaptive(POINTS),
}


def load_example():
    spec = importlib.util.spec_from_file_location("burgers_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


@keras.saving.register_keras_serializable()
def both_squares(start, ends):
    return ops.square(start) + ops.square(ends)


class WithoutTargets(keras.utils.PyDataset):
    """The points of the example alone."""

    def __init__(self, seed):
        super().__init__()
        self.points = example.Points(example.EVERY, seed)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        points, _ = self.points[index]
        return (points,)


def two_branches(network, method, seed):
    """The example's model with the start and the ends as one branch."""
    model = example.build_model(network)
    x = model.input["initial"][..., 1:]
    start = model.output["start"] + ops.sin(np.pi * x)
    outputs = {**model.output, "start": start}
    losses = {
        "conditions": lw.TargetFreeLoss(both_squares, of=["start", "ends"]),
        "equation": lw.TargetFreeLoss(example.square),
    }
    training = lw.build_training_model(
        keras.Model(model.input, outputs), losses, **method()
    )
    return training, WithoutTargets(seed), example.EVERY


def three_branches(network, method, seed):
    model = example.build_model(network)
    training = lw.build_training_model(model, example.losses(), **method())
    return training, example.Points(example.EVERY, seed), example.EVERY


class FixedPoints(keras.utils.PyDataset):
    """The same points in each epoch, in another order, with their index."""

    def __init__(self, seed):
        super().__init__()
        self.random = np.random.default_rng(seed)
        drawn = qmc.LatinHypercube(4, rng=self.random).random(POINTS)
        self.x = 2 * drawn[:, :1] - 1
        ends = np.where(np.arange(POINTS) % 2, 1.0, -1.0)[:, None]
        self.points = {
            "initial": np.concatenate([np.zeros_like(self.x), self.x], axis=1),
            "boundary": np.concatenate([drawn[:, 1:2], ends], axis=1),
            "interior": drawn[:, 2:] * [1, 2] - [0, 1],
        }
        self.on_epoch_end()

    def __len__(self):
        return POINTS // BATCH

    def on_epoch_end(self):
        self.order = self.random.permutation(POINTS)

    def __getitem__(self, index):
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        points = {n: p[rows].astype("float32") for n, p in self.points.items()}
        points["equation_index"] = rows.astype("int32")
        return points, {"start": -np.sin(np.pi * self.x[rows]).astype("float32")}


def fixed_points(network, method, seed):
    model = example.build_model(network, rows=True)
    losses = example.losses()
    weights = method()
    losses["equation"] = lw.TargetFreeLoss(example.square, point_weights=weights)
    training = lw.build_training_model(model, losses, lw.FixedWeights())
    return training, FixedPoints(seed), POINTS // BATCH


def run(build, method, seed, steps, solution):
    """The errors of a training, one each epoch."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    network = example.build_network()
    training, data, a_epoch = build(network, method, seed)
    training.compile(keras.optimizers.Adam(1e-4))
    bar = keras.utils.Progbar(steps, unit_name="step", stateful_metrics=["error"])
    every = example.EVERY // a_epoch
    error = example.Error(network, solution, bar, every=every, steps=a_epoch)
    training.fit(data, epochs=steps // a_epoch, callbacks=[error], verbose=0)
    return error.errors


def table(kept):
    seeds = sorted(next(iter(kept.values())))
    heads = ["method", *(f"seed {seed}" for seed in seeds), "mean", "last"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, runs in kept.items():
        least = [min(runs[seed]) for seed in seeds]
        last = np.mean([runs[seed][-1] for seed in runs])
        cells = [f"{one:.4f}" for one in (*least, np.mean(least), last)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=data_files.BURGERS)
    parser.add_argument("--only", nargs="+", metavar="METHOD")
    parser.add_argument("--short", action="store_true", help="does it run?")
    options = parser.parse_args()
    path = data_files.need(options.data, data_files.ABOUT_BURGERS)
    solution = np.load(path)
    difference = np.mean((solution - example.exact(*example.grid())) ** 2)
    print(f"Squared difference of the reference and the exact one: {difference:.2g}")
    kept = {}
    if PATH.is_file() and not options.short:
        kept = json.loads(PATH.read_text(encoding="utf-8"))
    seeds, steps = (SEEDS[:1], 20) if options.short else (SEEDS, STEPS)
    groups = (
        (METHODS, three_branches),
        (CONES, two_branches),
        (FIXED_POINTS, fixed_points),
    )
    for methods, build in groups:
        for name, method in methods.items():
            if options.only and name not in options.only:
                continue
            runs = kept.setdefault(name, {})
            for seed in seeds:
                if str(seed) in runs:
                    continue
                print(f"\n{name}, seed {seed}")
                runs[str(seed)] = run(build, method, seed, steps, solution)
                if not options.short:
                    PATH.parent.mkdir(exist_ok=True)
                    PATH.write_text(json.dumps(kept), encoding="utf-8")
    print(f"\n{table(kept)}")


if __name__ == "__main__":
    main()
