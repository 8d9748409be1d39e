"""How much memory a training step with a balancer needs, against a plain one.

A shared representation of 64 MB, Dense units for a batch of thousands, with
K heads. Each side trains in a process of its own, whose largest resident size is taken:
what both have in common, the libraries above all, cancels out. What they haven't, such
as what was compiled, doesn't, and matters less beside 256 MB (`--batch 32768`). The
difference is given in representations: the aim at the representation is at most K.

    KERAS_BACKEND=jax python benchmarks/memory.py
    KERAS_BACKEND=torch python benchmarks/memory.py --heads 8 --methods UPGrad MGDA

A head is one Dense layer of four units, whose gradients needn't be written out but for
methods that look at elements, which need them with `--units 1` neither; `--hidden 64`
gives each head a hidden layer, and they are.

On processors; what an accelerator holds isn't the process's.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys

FEATURES, UNITS, STEPS = 16, 2048, 3
METHODS = ["UPGrad", "MGDA", "NormBalancer", "GradDrop"]
UNIT = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`, in bytes


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[3, 8, 20], help="K")
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="METHOD")
    parser.add_argument(
        "--hidden",
        type=int,
        default=0,
        metavar="UNITS",
        help="the size of a hidden layer in each head; 0 for none",
    )
    parser.add_argument("--batch", type=int, default=8192, help="samples in a batch")
    parser.add_argument("--units", type=int, default=4, help="those of a head")
    parser.add_argument("--rounds", type=int, default=3, help="processes a side")
    parser.add_argument("--side", nargs=2, metavar=("K", "METHOD"), help="internal")
    return parser.parse_args()


def train(num_heads, method, options):
    """Trains for a few steps; prints the largest size of this process, in bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    import lossweigh as lw

    names = [f"head_{k}" for k in range(num_heads)]
    inputs = keras.Input((FEATURES,))
    shared = keras.layers.Dense(UNITS, activation="tanh")(inputs)
    outputs = {}
    for name in names:
        head = shared
        if options.hidden:
            head = keras.layers.Dense(options.hidden, activation="tanh")(head)
        outputs[name] = keras.layers.Dense(options.units, name=name)(head)
    model = lw.build_training_model(
        keras.Model(inputs, outputs),
        dict.fromkeys(names, "mse"),
        lw.FixedWeights(),
        None if method == "plain" else getattr(lw, method)(level="representation"),
    )
    model.compile("adam")
    random = np.random.default_rng(0)
    x = random.normal(size=(options.batch * STEPS, FEATURES)).astype("float32")
    y = dict.fromkeys(names, x[:, : options.units])
    model.fit(x, y, batch_size=options.batch, shuffle=False, verbose=0)
    print("bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT)


def size_of(num_heads, method, options):
    """The median of some processes' largest sizes, in bytes."""
    command = [sys.executable, __file__, "--side", str(num_heads), method]
    command += ["--hidden", str(options.hidden), "--units", str(options.units)]
    command += ["--batch", str(options.batch)]
    sizes = []
    for _ in range(options.rounds):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sizes.append(int(done.stdout.split("bytes")[-1]))
    return statistics.median(sizes)


def main():
    options = arguments()
    if options.side:
        train(int(options.side[0]), options.side[1], options)
        return
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    representation = options.batch * UNITS * 4  # bytes
    print(f"{backend}; a representation has {representation / 2**20:.0f} MB\n")
    print(f"{'K':>3}  {'':<24}{'MB':>7}{'more':>7}  representations")
    for num_heads in options.heads:
        plain = size_of(num_heads, "plain", options)
        print(f"{num_heads:>3}  {'plain':<24}{plain / 2**20:>7.0f}", flush=True)
        for method in options.methods:
            size = size_of(num_heads, method, options)
            more = (size - plain) / representation
            print(
                f"{num_heads:>3}  {method:<24}{size / 2**20:>7.0f}"
                f"{(size - plain) / 2**20:>7.0f}{more:>8.1f}"
                + ("  more than K" if more > num_heads else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
