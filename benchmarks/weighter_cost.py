"""What each weighter's training step costs, against that of fixed weights.

The network of `training_step.py`, a trunk of four Dense(512) layers with K heads, is
trained with each method and with `FixedWeights`, through stock `fit` on NumPy arrays.
Both models of a pair take turns in one process, the first of them another in each
round, so that whatever else the machine does meets them alike. A turn is timed from the
end of its first step to the end of its last; a ratio is taken within a turn of both,
and the median over the rounds is reported with its quartiles. Beside it is the ratio of
the processor time of all threads, which other processes disturb less.

    KERAS_BACKEND=tensorflow python benchmarks/weighter_cost.py
    KERAS_BACKEND=jax python benchmarks/weighter_cost.py --methods FAMO DWA
"""

import argparse
import json
import os
import platform
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lossweigh as lw

BATCH, FEATURES, UNITS = 256, 64, 512
LIMIT = {"tensorflow": 1.05, "jax": 1.05, "torch": 1.15}
METHODS = [
    name
    for name in lw.__all__
    if isinstance(getattr(lw, name), type)
    and issubclass(getattr(lw, name), lw.Weighter)
    and getattr(lw, name) is not lw.Weighter
]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 8, 32], help="K")
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD"
    )
    parser.add_argument("--rounds", type=int, default=25, help="timed rounds")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a turn")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.heads, options.rounds, options.steps = [2], 2, 2
    return options


def build(num_heads, method):
    """The compiled training model, from nothing, with the same initial weights."""
    keras.utils.set_random_seed(0)
    names = [f"head_{k}" for k in range(num_heads)]
    inputs = keras.Input((FEATURES,))
    hidden = inputs
    for _ in range(4):
        hidden = keras.layers.Dense(UNITS, activation="relu")(hidden)
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in names}
    training = lw.build_training_model(
        keras.Model(inputs, outputs), dict.fromkeys(names, "mse"), getattr(lw, method)()
    )
    training.compile("adam")
    return training


def make_data(num_heads, steps):
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH * steps, FEATURES)).astype("float32")
    noise = random.normal(size=(num_heads, BATCH * steps, 1)).astype("float32")
    y = {
        f"head_{k}": np.sin(x[:, k : k + 1] * x[:, k + 1 : k + 2]) + noise[k]
        for k in range(num_heads)
    }
    return x, y


class StepTimer(keras.callbacks.Callback):
    """Seconds, and processor seconds, from the end of the first step to the last's."""

    def on_train_batch_end(self, batch, logs=None):
        if batch in (0, self.params["steps"] - 1):
            float(logs["loss"])  # waits for the step
            now = np.array([time.perf_counter(), time.process_time()])
            if batch == 0:
                self.start = now
            else:
                self.taken = now - self.start


def turn(training, x, y):
    timer = StepTimer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of collapse: nothing is learned here
        training.fit(
            x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[timer]
        )
    return timer.taken


def time_method(method, fixed, data, rounds):
    """Wall and processor seconds of a turn, `(rounds, 2)`: the method's, the fixed."""
    training = build(len(data[1]), method)
    taken = []
    for number in range(rounds + 1):
        pair = [training, fixed]
        times = [turn(model, *data) for model in (pair if number % 2 else pair[::-1])]
        if number > 0:  # the first round warms up
            taken.append(times if number % 2 else times[::-1])
    return np.array(taken).transpose(1, 0, 2)


def load():
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def main():
    options = arguments()
    backend = keras.backend.backend()
    limit = LIMIT[backend]
    report = {
        "backend": backend,
        "keras": keras.__version__,
        "backend_version": __import__(backend).__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "steps": options.steps,
        "rows": [],
    }
    print(
        f"Keras {report['keras']}, {backend} {report['backend_version']}, "
        f"{report['cores']} cores; {options.rounds} rounds of {options.steps} steps, "
        f"batch {BATCH}, trunk 4 x {UNITS}; load {load()}\n"
    )
    print(
        f"{'K':>3}  {'method':<24}{'median ms':>10}{'ratio':>8}{'quartiles':>14}"
        f"{'processor':>11}{'limit':>7}"
    )
    for num_heads in options.heads:
        keras.backend.clear_session()
        fixed = build(num_heads, "FixedWeights")
        data = make_data(num_heads, options.steps + 1)
        for method in options.methods:
            own, reference = time_method(method, fixed, data, options.rounds)
            low, middle, high = np.percentile(own[:, 0] / reference[:, 0], [25, 50, 75])
            row = {
                "heads": num_heads,
                "method": method,
                "milliseconds": float(np.median(own[:, 0]) / options.steps * 1e3),
                "ratio": float(middle),
                "quartiles": [float(low), float(high)],
                "processor_ratio": float(np.median(own[:, 1] / reference[:, 1])),
                "limit": limit,
            }
            report["rows"].append(row)
            print(
                f"{num_heads:>3}  {method:<24}{row['milliseconds']:>10.2f}"
                f"{middle:>8.3f}{f'{low:.3f}-{high:.3f}':>14}{row['processor_ratio']:>11.3f}"
                f"{limit:>7.2f}" + ("  missed" if middle > limit else ""),
                flush=True,
            )
    print(f"\nLoad at the end: {load()}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(f"Written: {options.json}")


if __name__ == "__main__":
    main()
