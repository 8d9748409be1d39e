"""Whether three weightings train as those of PhysicsNeMo-Sym do, by its stored numbers.

That library tests each weighting by 1,000 steps on a toy, and stores the weights and
the weighted loss that it ended with. With `x` (n, 3) drawn, `w` (n, n) and `b` (n, 1)
of ones, and `x1`, `x2`, `x3` the columns of `x`, the three losses are

    mean(relu(w x1 + b - x1^2)),  mean(relu(w x2 + b - x2^2)),
    mean(relu(w x3 + b + x3^2))

for n = 512, by SGD with a rate of 0.01, and a third of it in the first five steps.
This trains the same toy as a functional model, by stock `fit`, from the `x` that a
checkout of the library holds, and compares what comes out:

    git clone https://github.com/NVIDIA/physicsnemo-sym
    KERAS_BACKEND=jax python benchmarks/physicsnemo_sym.py --checkout physicsnemo-sym

Reported is the largest relative difference of `w`, `b` and the weighted loss; beside
it that of the plain sum of the losses, from the same `x`, which says how much of the
method the numbers show. The library's own tests allow 1e-4 (and 1e-4 absolutely), and
above that the script fails. The results of a backend replace those that are kept beside
the script. Nothing of the library is needed but the files of numbers.

Its files of three other weightings show no more. In its tests of `GradNorm` and
`HomoscedasticUncertainty` no optimizer has the weights, so they stay equal. Its
`SoftAdapt` is another formula, a softmax of each loss over its last value.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops

import lossweigh as lw

FOLDER = "test/test_aggregator/test_aggregator_data"
TOLERANCE = 1e-4
SIGNS = {"x": -1.0, "y": -1.0, "z": 1.0}  # of the squares in the branches
METHODS = {  # by the name that the library gives them
    "Sum": dict,
    "LRAnnealing": lambda: {"balancer": lw.LearningRateAnnealing(level="parameters")},
    "Relobralo": lambda: {"weighter": lw.ReLoBRaLo(seed=0)},
}
ABOUT = f"""\
The repository NVIDIA/physicsnemo-sym (Apache 2.0) holds such files in {FOLDER}:
  x_np (512, 3), w_np (512, 512), b_np (512, 1) and loss_np () float32
  total_steps () int, learning_rate () float
Clone it, and say where it is with --checkout."""


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkout", type=Path, required=True, help="of NVIDIA/physicsnemo-sym"
    )
    lines = Path(__file__).with_suffix(".jsonl")
    parser.add_argument("--results", type=Path, default=lines, help="one line a method")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (keeps nothing, fails never)"
    )
    return parser.parse_args()


def stored(checkout, name):
    """The arrays that the library keeps for a weighting."""
    path = checkout / FOLDER / f"{name}_data.npz"
    if not path.is_file():
        raise SystemExit(
            f"This benchmark needs the file {path.name}, which isn't at\n  {path}\n"
            + ABOUT
        )
    if path.read_bytes().startswith(b"version https://git-lfs"):
        raise SystemExit(
            f"This benchmark needs the file\n  {path}\nand finds a pointer of Git LFS "
            "in its place. Get the file itself with `git lfs pull`.\n" + ABOUT
        )
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


@keras.saving.register_keras_serializable(package="benchmarks")
def as_it_is(y_pred):
    """The loss of an output that is one."""
    return y_pred


def build(number):
    """The toy; its one sample is all points, `(1, number, 3)`."""
    points = keras.Input((number, 3), name="points")
    shared = layers.EinsumDense(
        "bjk,ij->bik",
        (number, 3),
        bias_axes="i",
        kernel_initializer="ones",
        bias_initializer="ones",
    )(points)
    branches = {}
    for column, (name, sign) in enumerate(SIGNS.items()):
        one = slice(column, column + 1)
        value = shared[..., one] + sign * ops.square(points[..., one])
        branches[name] = layers.ReLU(name=name)(value)
    return keras.Model(points, branches)


def train(points, steps, learning_rate, weighter=None, balancer=None):
    """`w`, `b` and the last step's weighted loss, after so many steps.

    Args:
        points: `(n, 3)`.
        steps: How many.
        learning_rate: Of all steps but the first five, which take a third of it.
        weighter: Default: fixed weights of 1.
        balancer: Or `None`.
    """
    model = build(len(points))
    losses = {name: lw.TargetFreeLoss(as_it_is) for name in SIGNS}
    weighter = weighter or lw.FixedWeights()
    training = lw.build_training_model(model, losses, weighter, balancer)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay(
        [4], [learning_rate / 3, learning_rate]
    )
    training.compile(keras.optimizers.SGD(rates), log=["losses"])
    samples = np.broadcast_to(points, (steps - 1, *points.shape))
    training.fit(samples, batch_size=1, verbose=0)
    logs = training.train_on_batch(points[None], return_dict=True)
    weights = training.loss_weights if balancer is None else training.balance
    loss = sum(weights[name] * logs[f"{name}_loss"] for name in SIGNS)
    kernel, bias = model.get_weights()
    return {"w_np": kernel, "b_np": bias, "loss_np": float(loss)}


def differences(ours, theirs):
    """The largest relative difference of each."""
    return {
        key.removesuffix("_np"): float(np.max(np.abs(value / theirs[key] - 1)))
        for key, value in ours.items()
    }


def in_words(differences):
    return ", ".join(f"{key} {value:.1e}" for key, value in differences.items())


def main():
    options = arguments()
    backend = keras.backend.backend()
    report = {
        "backend": backend,
        "keras": keras.__version__,
        "backend_version": __import__(backend).__version__,
    }
    rows = []
    print(f"Keras {keras.__version__}, {backend} {report['backend_version']}")
    for name, arguments_of in METHODS.items():
        theirs = stored(options.checkout, name)
        steps = 10 if options.short else int(theirs["total_steps"])
        given = theirs["x_np"], steps, float(theirs["learning_rate"])
        ours, plain = train(*given, **arguments_of()), train(*given)
        row = {
            **report,
            "method": name,
            "differences": differences(ours, theirs),
            "of_the_sum": differences(plain, theirs),
            "agrees": all(
                np.allclose(theirs[key], ours[key], rtol=TOLERANCE, atol=TOLERANCE)
                for key in ours
            ),
        }
        rows.append(row)
        print(
            f"  {name:<12} {in_words(row['differences'])}; "
            f"the plain sum: {in_words(row['of_the_sum'])}"
            + ("" if row["agrees"] else "  DIFFERENT"),
            flush=True,
        )
    if options.short:
        return
    kept = []
    if options.results.is_file():
        lines = options.results.read_text("utf-8").splitlines()
        kept = [row for row in map(json.loads, lines) if row["backend"] != backend]
    everything = sorted([*kept, *rows], key=lambda row: row["backend"])
    options.results.write_text(
        "".join(json.dumps(row) + "\n" for row in everything), "utf-8"
    )
    print(f"Written: {options.results}")
    sys.exit(not all(row["agrees"] for row in rows))


if __name__ == "__main__":
    main()
