"""What the losses of whole sequences cost, against Keras's mean squared error.

Each loss, forward and backward to the predictions, on the same float32 batch of 256
sequences of 500 steps and 8 channels. The step is compiled as `fit` does by itself:
`jax.jit`, a `tf.function`, eager torch; with `--compile`, XLA on TensorFlow and
`torch.compile` on torch. All losses take turns in one process, in another order each
round; a ratio is taken within a round, and the median over the rounds is reported with
its quartiles. Beside it is the ratio of the processor time of all threads, which other
processes disturb less. `TargetReplication` has a loss inside, so it is compared with
that loss at every step, too.

    KERAS_BACKEND=jax python benchmarks/sequence_losses.py
    KERAS_BACKEND=torch python benchmarks/sequence_losses.py --compile
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

from lossweigh.losses.concordance import Concordance
from lossweigh.losses.correlation import Correlation
from lossweigh.losses.target_replication import TargetReplication

BATCH, TIME, CHANNELS = 256, 500, 8
LIMIT = 3.0
CROSS_ENTROPY = "sparse_categorical_crossentropy"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds")
    parser.add_argument("--steps", type=int, default=5, help="timed steps a round")
    parser.add_argument("--compile", action="store_true", help="see above")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.rounds, options.steps = 2, 1
    return options


def cases():
    """Name to a loss, its target, its prediction, and what else it's compared with."""
    random = np.random.default_rng(0)
    y, p = random.normal(size=(2, BATCH, TIME, CHANNELS)).astype("float32")
    likely = np.exp(p)
    likely /= likely.sum(-1, keepdims=True)
    once = y[:, 0]
    labels = random.integers(0, CHANNELS, BATCH).astype("int32")

    def mean_squared_error(y_true, y_pred):
        return ops.mean(keras.losses.mean_squared_error(y_true, y_pred))

    def cross_entropy(y_true, y_pred):
        y_true = ops.repeat(ops.expand_dims(y_true, 1), TIME, axis=1)
        return ops.mean(keras.losses.sparse_categorical_crossentropy(y_true, y_pred))

    entropy = TargetReplication(CROSS_ENTROPY)
    return {
        "mean_squared_error": (mean_squared_error, y, p, None),
        "Correlation": (Correlation(), y, p, None),
        "Correlation, steps": (Correlation(form="steps"), y, p, None),
        "Concordance": (Concordance(), y, p, None),
        "TargetReplication, mse": (TargetReplication("mse"), once, p, None),
        "cross-entropy": (cross_entropy, labels, likely, None),
        "TargetReplication, c.-e.": (entropy, labels, likely, "cross-entropy"),
    }


def step(loss, target, prediction, compiled):
    """A function that runs forward and backward, and waits."""
    backend = keras.backend.backend()
    target, prediction = (
        ops.convert_to_tensor(target),
        ops.convert_to_tensor(prediction),
    )
    if backend == "jax":
        import jax

        function = jax.jit(jax.value_and_grad(loss, argnums=1))
        return lambda: jax.block_until_ready(function(target, prediction))
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=compiled)
        def function(target, prediction):
            with tf.GradientTape() as tape:
                tape.watch(prediction)
                value = loss(target, prediction)
            return value, tape.gradient(value, prediction)

        return lambda: function(target, prediction)[0].numpy()

    import torch

    prediction.requires_grad_()
    called = torch.compile(loss) if compiled else loss

    def run():
        prediction.grad = None
        called(target, prediction).backward()
        if prediction.is_cuda:
            torch.cuda.synchronize()

    return run


def turn(run, steps):
    """Seconds, and processor seconds, of a step."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(steps):
        run()
    return (np.array([time.perf_counter(), time.process_time()]) - start) / steps


def load():
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def main():
    options = arguments()
    backend = keras.backend.backend()
    given = cases()
    runs = {
        name: step(loss, target, prediction, options.compile)
        for name, (loss, target, prediction, _) in given.items()
    }
    report = {
        "backend": backend,
        "compile": options.compile,
        "keras": keras.__version__,
        "backend_version": __import__(backend).__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "steps": options.steps,
        "rows": [],
    }
    print(
        f"Keras {report['keras']}, {backend} {report['backend_version']}"
        f"{', compiled' if options.compile else ''}, {report['cores']} cores; "
        f"{options.rounds} rounds of {options.steps} steps, "
        f"({BATCH}, {TIME}, {CHANNELS}); load {load()}\n"
    )
    names = list(runs)
    for name in names:
        turn(runs[name], 2)  # compiles, and warms up
    taken = {name: [] for name in names}
    for number in range(options.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken[name].append(turn(runs[name], options.steps))
    taken = {name: np.array(times) for name, times in taken.items()}
    print(
        f"{'loss':<26}{'median ms':>10}{'ratio':>8}{'quartiles':>14}{'processor':>11}"
        f"{'to its own':>12}{'limit':>7}"
    )
    for name, (*_, inner) in given.items():
        ratios = taken[name] / taken["mean_squared_error"]
        low, middle, high = np.percentile(ratios[:, 0], [25, 50, 75])
        own = inner and float(np.median((taken[name] / taken[inner])[:, 0]))
        row = {
            "loss": name,
            "milliseconds": float(np.median(taken[name][:, 0]) * 1e3),
            "ratio": float(middle),
            "quartiles": [float(low), float(high)],
            "processor_ratio": float(np.median(ratios[:, 1])),
            "ratio_to_inner": own,
            "limit": LIMIT,
        }
        report["rows"].append(row)
        print(
            f"{name:<26}{row['milliseconds']:>10.2f}{middle:>8.2f}"
            f"{f'{low:.2f}-{high:.2f}':>14}{row['processor_ratio']:>11.2f}"
            f"{'' if own is None else f'{own:.2f}':>12}{LIMIT:>7.2f}"
            + ("  missed" if min(middle, own or middle) > LIMIT else "")
        )
    print(f"\nLoad at the end: {load()}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(f"Written: {options.json}")


if __name__ == "__main__":
    main()
