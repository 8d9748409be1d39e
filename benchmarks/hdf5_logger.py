"""What a row a batch costs: a step with `HDF5Logger`, against one without.

The network of `training_step.py`, a trunk of four Dense(512) layers with K heads, is
trained with `Uncertainty` through stock `fit` on NumPy arrays, once with the callback
and once without. Both models take turns in one process, the first of them another in
each round. A turn is timed from the beginning of an epoch to its end, when the rows are
in the file. A ratio is taken within a round, and the median over the rounds is reported
with its quartiles; beside it is that of the processor time of all threads, which other
processes disturb less, and the difference in microseconds a step.

    KERAS_BACKEND=tensorflow python benchmarks/hdf5_logger.py
    KERAS_BACKEND=jax python benchmarks/hdf5_logger.py --rows 1000000

`--rows` measures the file instead: the bytes, the memory and the time that so many rows
take in a training of a tiny network. It runs on TensorFlow and JAX: on torch Keras has
no `steps_per_execution`.
"""

import argparse
import os
import pathlib
import resource
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lossweigh as lw

BATCH, FEATURES, UNITS = 256, 64, 512
LIMIT = 1.02


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 8], help="K")
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds")
    parser.add_argument("--units", type=int, default=UNITS, help="of a layer")
    parser.add_argument("--steps", type=int, default=100, help="steps a turn")
    parser.add_argument("--rows", type=int, help="measure a file of so many rows")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.heads, options.rounds, options.steps = [2], 2, 3
    return options


def build(num_heads, units=UNITS):
    """The compiled training model, from nothing, with the same initial weights."""
    keras.utils.set_random_seed(0)
    names = [f"head_{k}" for k in range(num_heads)]
    inputs = keras.Input((FEATURES,))
    hidden = inputs
    for _ in range(4):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in names}
    training = lw.build_training_model(
        keras.Model(inputs, outputs), dict.fromkeys(names, "mse"), lw.Uncertainty()
    )
    training.compile("adam")
    return training


def make_data(num_heads, rows):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, FEATURES)).astype("float32")
    y = {
        f"head_{k}": random.normal(size=(rows, 1)).astype("float32")
        for k in range(num_heads)
    }
    return x, y


def clocks():
    return np.array([time.perf_counter(), time.process_time()])


class Begin(keras.callbacks.Callback):
    """The time at the beginning of an epoch, if it is the first callback."""

    def on_epoch_begin(self, epoch, logs=None):
        self.at = clocks()


class End(keras.callbacks.Callback):
    """The time at the end of an epoch, if it is the last callback."""

    def on_epoch_end(self, epoch, logs=None):
        float(logs["loss"])
        self.at = clocks()


def turn(training, data, loggers):
    begin, end = Begin(), End()
    training.fit(
        *data,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[begin, *loggers, end],
    )
    return end.at - begin.at


def time_steps(num_heads, options, path):
    """Wall and processor seconds of a turn, `(rounds, 2)`: with the callback, without.

    The model without never had it: its step doesn't keep what the callback reads.
    """
    keras.backend.clear_session()
    data = make_data(num_heads, BATCH * options.steps)
    logged, plain = (build(num_heads, options.units) for _ in range(2))
    taken = []
    for number in range(options.rounds + 1):
        sides = [
            (logged, [lw.callbacks.HDF5Logger(path, append=number > 0)]),
            (plain, []),
        ]
        order = 1 if number % 2 else -1
        times = [turn(model, data, loggers) for model, loggers in sides[::order]]
        if number > 0:  # the first round warms up
            taken.append(times[::order])
    return np.array(taken).transpose(1, 0, 2)


def resident():
    """The most memory of this process so far, in MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_file(rows, num_heads, path):
    """Trains a tiny network for so many steps, each on one row, without calls between.

    The memory is that of the process, which training without the callback grows too.
    """
    training = build(num_heads, units=8)
    training.compile("sgd", steps_per_execution=100)
    data = make_data(num_heads, rows)
    logger = lw.callbacks.HDF5Logger(path)
    began, memory = time.perf_counter(), resident()
    training.fit(*data, batch_size=1, shuffle=False, verbose=0, callbacks=[logger])
    ended, most = time.perf_counter(), resident()
    table = logger.read(path)
    reading = time.perf_counter() - ended
    print(
        f"K = {num_heads}: {len(table['step'])} rows of {len(table)} columns in "
        f"{ended - began:.1f} s of training, {path.stat().st_size / 1e6:.1f} MB; "
        f"memory grew by {most - memory:.0f} MB; read in {reading:.2f} s"
    )


def main():
    options = arguments()
    path = pathlib.Path(tempfile.mkdtemp()) / "run.h5"
    backend = keras.backend.backend()
    if options.rows and backend == "torch":
        raise SystemExit("--rows runs on TensorFlow and JAX.")
    if options.rows:
        for num_heads in options.heads:
            measure_file(options.rows, num_heads, path)
        return
    print(
        f"Keras {keras.__version__}, {backend}; {options.rounds} rounds of "
        f"{options.steps} steps, batch {BATCH}, trunk 4 x {options.units}\n"
    )
    print(
        f"{'K':>3}{'without, ms':>13}{'with':>8}{'ratio':>8}{'quartiles':>14}"
        f"{'processor':>11}{'more, us':>10}{'limit':>7}"
    )
    for num_heads in options.heads:
        logged, plain = time_steps(num_heads, options, path)
        low, middle, high = np.percentile(logged[:, 0] / plain[:, 0], [25, 50, 75])
        milliseconds = np.median([plain, logged], axis=1)[:, 0] / options.steps * 1e3
        print(
            f"{num_heads:>3}{milliseconds[0]:>13.2f}{milliseconds[1]:>8.2f}"
            f"{middle:>8.3f}{f'{low:.3f}-{high:.3f}':>14}"
            f"{np.median(logged[:, 1] / plain[:, 1]):>11.3f}"
            f"{np.median(logged[:, 1] - plain[:, 1]) / options.steps * 1e6:>10.0f}"
            f"{LIMIT:>7.2f}" + ("  missed" if middle > LIMIT else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
