"""What a training step costs with lossweigh, against native Keras.

The same network, a trunk of four Dense(512) layers with K heads, is trained by

- ``native``: the model itself, compiled with ``loss_weights``: the reference;
- ``FixedWeights``: a training model with the same constant weights;
- ``LossWeighter``: a training model that learns its weights.

All three live in one process and take turns, in another order each round, so that
whatever else the machine does meets them alike. A round trains each of them through
stock ``fit`` on the same NumPy arrays; its time runs from the first batch to the end of
the epoch, Python included. A ratio is taken within a round, and the median over the
rounds is reported with its quartiles.

    KERAS_BACKEND=tensorflow python benchmarks/training_step.py
    KERAS_BACKEND=jax python benchmarks/training_step.py --json jax.json
"""

import argparse
import datetime
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lossweigh as lw

BATCH, FEATURES, UNITS = 256, 64, 512
STEP_LIMIT = {"tensorflow": 1.03, "jax": 1.03, "torch": 1.10}
FIRST_STEP_LIMIT = 1.3
WEIGHTERS = {
    "native": None,
    "FixedWeights": lambda weights: lw.FixedWeights(weights),
    "LossWeighter": lambda weights: lw.LossWeighter(),
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 8], help="K")
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds")
    parser.add_argument("--steps", type=int, default=20, help="steps a round")
    parser.add_argument("--starts", type=int, default=9, help="builds + first steps")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.rounds, options.steps, options.starts = 2, 3, 1
    return options


def build(num_heads, weighter):
    """The compiled model of one side, from nothing, with the same initial weights."""
    keras.utils.set_random_seed(0)
    names = [f"head_{k}" for k in range(num_heads)]
    weights = [2.0 * (k + 1) / (num_heads * (num_heads + 1)) for k in range(num_heads)]
    inputs = keras.Input((FEATURES,))
    hidden = inputs
    for _ in range(4):
        hidden = keras.layers.Dense(UNITS, activation="relu")(hidden)
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in names}
    model = keras.Model(inputs, outputs)
    losses = dict.fromkeys(names, "mse")
    if weighter is None:
        model.compile(
            "adam", loss=losses, loss_weights=dict(zip(names, weights, strict=True))
        )
    else:
        model = lw.build_training_model(
            model, losses=losses, weighter=weighter(weights)
        )
        model.compile("adam")
    return model


def make_data(num_heads, steps):
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH * steps, FEATURES)).astype("float32")
    y = {
        f"head_{k}": np.sin(x[:, k : k + 1] * x[:, k + 1 : k + 2])
        for k in range(num_heads)
    }
    return x, y


class EpochTimer(keras.callbacks.Callback):
    """Seconds from the start of the epoch to its end, when its logs are numbers."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.start
        self.loss = float(logs["loss"])


def train(model, x, y):
    timer = EpochTimer()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[timer])
    return timer


def time_steps(num_heads, rounds, steps):
    """Seconds a step, {side: one value a round}."""
    x, y = make_data(num_heads, steps)
    models = {side: build(num_heads, make) for side, make in WEIGHTERS.items()}
    first_loss = {side: train(model, x, y).loss for side, model in models.items()}
    if not np.isclose(first_loss["native"], first_loss["FixedWeights"], rtol=1e-3):
        raise SystemExit(f"The sides don't compute the same loss: {first_loss}")
    seconds = {side: [] for side in models}
    sides = list(models)
    for turn in range(rounds + 1):
        for side in sides:
            taken = train(models[side], x, y).seconds / steps
            if turn > 0:  # the first round warms up
                seconds[side].append(taken)
        sides.insert(0, sides.pop())
        if turn % 2:
            sides.reverse()
    return seconds


def time_starts(num_heads, starts):
    """Seconds from no model at all to the end of its first step, {side: [...]}."""
    x, y = make_data(num_heads, 1)
    seconds = {side: [] for side in WEIGHTERS}
    sides = list(WEIGHTERS)
    for turn in range(starts + 1):
        for side in sides:
            keras.backend.clear_session()
            start = time.perf_counter()
            train(build(num_heads, WEIGHTERS[side]), x, y)
            if turn > 0:
                seconds[side].append(time.perf_counter() - start)
        sides.insert(0, sides.pop())
    return seconds


def compare(seconds, limit):
    """One row a side: median milliseconds, and the ratio with its quartiles."""
    native = np.array(seconds["native"])
    for side, values in seconds.items():
        low, middle, high = np.percentile(np.array(values) / native, [25, 50, 75])
        yield {
            "side": side,
            "milliseconds": float(np.median(values) * 1e3),
            "ratio": float(middle),
            "quartiles": [float(low), float(high)],
            "limit": None if side == "native" else limit,
        }


def main():
    options = arguments()
    backend = keras.backend.backend()
    report = {
        "backend": backend,
        "keras": keras.__version__,
        "backend_version": __import__(backend).__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "rounds": options.rounds,
        "steps": options.steps,
        "starts": options.starts,
        "rows": [],
    }
    print(
        f"Keras {report['keras']}, {backend} {report['backend_version']}, "
        f"{report['cores']} cores; {options.rounds} rounds of {options.steps} steps, "
        f"batch {BATCH}, trunk 4 x {UNITS}\n"
    )
    header = f"{'':<20}{'K':>3}  {'side':<14}{'median ms':>10}{'ratio':>8}"
    print(header + f"{'quartiles':>16}{'limit':>8}")
    for num_heads in options.heads:
        for what, seconds, limit in (
            (
                "step",
                time_steps(num_heads, options.rounds, options.steps),
                STEP_LIMIT[backend],
            ),
            (
                "build + first step",
                time_starts(num_heads, options.starts),
                FIRST_STEP_LIMIT,
            ),
        ):
            for row in compare(seconds, limit):
                report["rows"].append({"what": what, "heads": num_heads, **row})
                low, high = row["quartiles"]
                print(
                    f"{what:<20}{num_heads:>3}  {row['side']:<14}"
                    f"{row['milliseconds']:>10.2f}{row['ratio']:>8.3f}"
                    f"{f'{low:.3f}-{high:.3f}':>16}"
                    + ("" if row["limit"] is None else f"{row['limit']:>8.2f}")
                    + ("  missed" if row["ratio"] > (row["limit"] or 9e9) else ""),
                    flush=True,
                )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(f"\nWritten: {options.json}")


if __name__ == "__main__":
    main()
