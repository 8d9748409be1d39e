"""Balancers on real images, at each level: does the box cost the class its accuracy?

Photographs of blood, each with the box and the type of one white cell. A small network
with shared convolutions and two heads is trained under fixed weights, under uncertainty
weighting and with each balancer at the representation, at the parameters, at the
parameters with weights refreshed every 10 steps, and calibrated. Reported are the mean
intersection over union (IoU) of the boxes and the accuracy of the types on images that
were held out. The table is written as Markdown.

    KERAS_BACKEND=tensorflow python benchmarks/balancers.py --data cells.npz

The archive, by default `../shared/data/bccd_wbc_96x128.npz`, holds `x` (uint8 images:
number, height, width, 3), `box` (x1 y1 x2 y2, each in 0..1) and `y` (class indices).
Every run is a line of the file `--results`; runs that are in there already aren't
repeated, so the benchmark can be stopped, continued, and its page written at any time.
The file beside this script holds the published runs, so that without arguments their
page is written again; name a new file to repeat them (160 runs, 12 to 35 s each).
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

import lossweigh as lw

ROOT = Path(__file__).parent.parent
LOSSES = {"box": "huber", "label": "sparse_categorical_crossentropy"}
FOLDS, BATCH, EPOCHS, RATE = 5, 32, 16, 2e-3
MARGIN = 0.03  # how far below the best fixed weights still counts as level with them
LEVELS = {
    "representation": {"level": "representation"},
    "parameters": {"level": "parameters"},
    "parameters, every 10": {"level": "parameters", "update_every": 10},
    "calibrated, every 25": {"level": "calibrated", "update_every": 25},
}
BALANCERS = ["MGDA", "IMTLG", "UPGrad", "NashMTL", "AlignedMTL", "CAGrad", "PCGrad"]
FIXED = {"fixed 1 : 1": 1.0, "fixed 30 : 1": 30.0}
WEIGHTERS = ["RevisedUncertainty", "Uncertainty"]
ROWS = [
    *((name, "") for name in (*FIXED, *WEIGHTERS)),
    *((name, level) for name in BALANCERS for level in LEVELS),
]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = ROOT.parent / "shared" / "data" / "bccd_wbc_96x128.npz"
    parser.add_argument("--data", type=Path, default=data, help="the images")
    parser.add_argument("--seeds", type=int, default=FOLDS, help=f"up to {FOLDS}")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these")
    lines = Path(__file__).with_suffix(".jsonl")
    parser.add_argument("--results", type=Path, default=lines, help="one line a run")
    page = ROOT / "docs" / "methods" / "balancers-table.md"
    parser.add_argument("--out", type=Path, default=page, help="the Markdown file")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (prints, keeps nothing)"
    )
    return parser.parse_args()


def load(path, seed):
    """Images to train on, in all four mirrorings, and those of fold `seed`."""
    with np.load(path) as archive:
        x, box, y = (archive[key] for key in ("x", "box", "y"))
    order = np.random.default_rng(0).permutation(len(x))
    test = order[seed::FOLDS]
    train = np.setdiff1d(order, test)
    x = x / np.float32(255)
    images, boxes = x[train], box[train]
    images = np.concatenate([images, images[:, :, ::-1]])
    boxes = np.concatenate([boxes, boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]])
    boxes[len(train) :] += [1, 0, 1, 0]
    images = np.concatenate([images, images[:, ::-1]])
    boxes = np.concatenate([boxes, boxes[:, [0, 3, 2, 1]] * [1, -1, 1, -1]])
    boxes[2 * len(train) :] += [0, 1, 0, 1]
    known = {"box": boxes.astype("float32"), "label": np.tile(y[train], 4)}
    return (images, known), (x[test], {"box": box[test], "label": y[test]})


def build_predictor(image_shape, num_classes):
    """Shared convolutions; the box needs places, the type doesn't."""
    inputs = keras.Input(image_shape)
    shared = layers.Rescaling(2.0, offset=-1.0)(inputs)
    for filters, size, stride in ((16, 5, 2), (32, 3, 1), (48, 3, 1), (64, 3, 1)):
        shared = layers.Conv2D(filters, size, stride, padding="same")(shared)
        shared = layers.MaxPooling2D()(layers.ReLU()(shared))
    where = layers.Dense(32, activation="relu")(layers.Flatten()(shared))
    what = layers.GlobalMaxPooling2D()(shared)
    box = layers.Dense(4, activation="sigmoid", name="box")(where)
    label = layers.Dense(num_classes, activation="softmax", name="label")(what)
    return keras.Model(inputs, {"box": box, "label": label})


def method(name, level):
    """The weighter and the balancer of a row."""
    if name in FIXED:
        return lw.FixedWeights({"box": FIXED[name], "label": 1.0}), None
    if name in WEIGHTERS:
        return getattr(lw, name)(), None
    return None, getattr(lw, name)(**LEVELS[level])


class Clock(keras.callbacks.Callback):
    """Processor seconds of each epoch: less moved by other programs than the time."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self.begin)


def run(data, held_out, row, seed, epochs):
    """One training; what there is to know of it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    x, y = held_out
    predictor = build_predictor(x.shape[1:], int(data[1]["label"].max()) + 1)
    training = lw.build_training_model(predictor, LOSSES, *method(*row))
    steps = -(-len(data[0]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, steps * epochs)
    training.compile(keras.optimizers.Adam(schedule))
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of collapse: some weighters do
        history = training.fit(
            *data, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[clock]
        ).history
    iou, accuracy = scores(predictor.predict(x, verbose=0), y)
    step = float(np.median(clock.seconds[1:] or clock.seconds)) / steps
    losses = {h: [round(v, 5) for v in history[f"{h}_loss"]] for h in LOSSES}
    scored = {"iou": round(float(iou), 5), "accuracy": round(float(accuracy), 5)}
    return {**scored, "step": round(step, 5), "losses": losses}


def scores(prediction, y):
    """Mean IoU of the boxes and accuracy of the types; `nan` where one isn't finite."""
    true, said = y["box"], prediction["box"]
    sides = (np.minimum(true, said)[:, 2:] - np.maximum(true, said)[:, :2]).clip(0)
    shared = sides.prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clip(0).prod(1) for box in (true, said)]
    hits = prediction["label"].argmax(1) == y["label"]
    finite = np.isfinite(prediction["label"]).all()
    iou = (shared / (areas[0] + areas[1] - shared)).mean()
    return iou, hits.mean() if finite else np.nan


def run_all(options):
    """Runs what isn't in the file yet, seed by seed; returns all runs there are."""
    epochs = 1 if options.short else EPOCHS
    runs = {}
    if options.results.exists() and not options.short:
        for line in options.results.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            runs[one["method"], one["level"], one["seed"]] = one
    for seed in range(1 if options.short else min(options.seeds, FOLDS)):
        data, held_out = load(options.data, seed)
        for row in ROWS:
            wanted = not options.methods or row[0] in options.methods
            if (*row, seed) in runs or not wanted:
                continue
            begin = time.perf_counter()
            one = {"method": row[0], "level": row[1], "seed": seed}
            one |= run(data, held_out, row, seed, epochs)
            one["backend"] = keras.backend.backend()
            runs[*row, seed] = one
            if not options.short:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(one) + "\n")
            print(
                f"seed {seed}  {row[0]:<20}{row[1]:<22}IoU {one['iou']:.3f}  accuracy "
                f"{one['accuracy']:.3f}  {time.perf_counter() - begin:5.1f} s",
                flush=True,
            )
    return runs


def complete(runs):
    """The seeds that all rows have run."""
    seeds = range(FOLDS)
    return [seed for seed in seeds if all((*row, seed) in runs for row in ROWS)]


def spread(values):
    """The standard deviation over the seeds, 0 for a single one."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(2)


def summarise(runs, seeds):
    """For each row: mean, spread and worst of IoU and accuracy, and more."""
    rows = {}
    for row in ROWS:
        mine, plain = ([runs[*name, seed] for seed in seeds] for name in (row, ROWS[0]))
        scored, equal = (
            np.array([[one["iou"], one["accuracy"]] for one in some])
            for some in (mine, plain)
        )
        steps = [
            one["step"] / other["step"] for one, other in zip(mine, plain, strict=True)
        ]
        losses = [curve for one in mine for curve in one["losses"].values()]
        rows[row] = {
            "mean": scored.mean(0),
            "spread": spread(scored),
            "noise": spread(scored - equal) / len(seeds) ** 0.5,
            "worst": scored.min(0),
            "step": np.median(steps),
            "diverged": sum(not curve[-1] < curve[0] for curve in losses),
            "unsteady": sum(max(curve) > 1.05 * curve[0] for curve in losses),
        }
    best = np.max([rows[name, ""]["mean"] for name in FIXED], axis=0)
    for row in rows.values():
        row["change"] = row["mean"] - best
        row["gets"] = row["change"] >= -MARGIN
    return rows, best


def title(row):
    name, level = row
    return f"**{name}**" if name in FIXED else f"`{name}`" + f", {level}" * bool(level)


def verdict(row):
    return {(1, 1): "both", (1, 0): "box", (0, 1): "type", (0, 0): "neither"}[
        tuple(map(int, row["gets"]))
    ]


def page(runs, path):
    """The Markdown page."""
    seeds = complete(runs)
    rows, best = summarise(runs, seeds)
    with np.load(path) as archive:
        counts = np.bincount(archive["y"])
    majority = counts.max() / counts.sum()
    backends = " and ".join(sorted({one["backend"] for one in runs.values()}))
    lines = [
        "# Balancers on real images",
        "",
        f"Written by `benchmarks/balancers.py`, {len(seeds)} seeds, {backends} on a "
        "CPU. Photographs of blood, each with one white cell: its box and its type. "
        "Mean IoU of the boxes and accuracy of the types on held-out images, ± the "
        "standard deviation over the seeds.",
        "",
        "| method, level | IoU | accuracy | worst seed: IoU | accuracy | gets | worse "
        "change | processor time of a step |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name in sorted(rows, key=lambda name: -rows[name]["change"].min()):
        row = rows[name]
        pairs = zip(row["mean"], row["spread"], strict=True)
        cells = [
            title(name),
            *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in pairs),
            *(f"{worst:.3f}" for worst in row["worst"]),
            verdict(row),
            f"{row['change'].min():+.3f}",
            f"{row['step']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"**Gets**: what is at most {MARGIN} below the best of the fixed weights: IoU "
        f"{best[0]:.3f}, accuracy {best[1]:.3f}. **Worse change**: the smaller of the "
        "two differences from these; the rows are in this order. **Processor time**: "
        f"of all cores, against {title(ROWS[0])}, the median over the seeds; for "
        "measured times see `benchmarks/step_cost.py`.",
        "",
        "## The levels",
        "",
        *levels(rows),
        "",
        "## How to read it",
        "",
        reading(rows, majority, len(seeds)),
        "",
        "## Settings",
        "",
        f"- {counts.sum()} images, 96 x 128; seed k holds out the k-th fifth of one "
        "fixed order and sets the initial parameters and the order of the batches, the "
        "same for all rows. The other images are trained on in all four mirrorings.",
        "- Four convolutions with max-pooling are shared (16, 32, 48 and 64 filters); "
        "the box has a head of 32 units, the type a global max-pooling. Losses: huber "
        "and cross-entropy.",
        f"- Adam, learning rate {RATE:g} with a cosine decay to 0, batches of {BATCH}, "
        f"{EPOCHS} epochs, the parameters at the end. The network, the epochs and the "
        "rate were chosen in a few pilot runs on these images, nothing else was "
        "selected by the held-out ones. Balancers with their defaults, over equal "
        "weights.",
        f"- The most frequent type is {majority:.0%} of the images.",
        "",
    ]
    return "\n".join(lines)


def levels(rows):
    """A table: what each level gives over the balancers, and how far from exact."""
    yield "| level | mean IoU | mean accuracy | spread | IoU from exact | accuracy |"
    yield "|---|---:|---:|---:|---:|---:|"
    for level in LEVELS:
        mean = np.mean([rows[name, level]["mean"] for name in BALANCERS], axis=0)
        spread = np.mean([rows[name, level]["spread"] for name in BALANCERS], axis=0)
        gaps = [
            rows[n, level]["mean"] - rows[n, "parameters"]["mean"] for n in BALANCERS
        ]
        gap = np.abs(gaps).mean(0)
        yield (
            f"| {level} | {mean[0]:.3f} | {mean[1]:.3f} | {spread[0]:.3f}, "
            f"{spread[1]:.3f} | {gap[0]:.3f} | {gap[1]:.3f} |"
        )
    yield ""
    yield (
        "Means over the balancers; **spread**: the mean of their standard deviations "
        "over the seeds, of IoU and accuracy; **from exact**: the mean distance from "
        "the same balancer at the parameters in each step."
    )


def reading(rows, majority, number):
    """A paragraph from the numbers."""

    def those(condition):
        found = {}
        for (name, level), row in rows.items():
            if condition(row):
                found.setdefault(f"`{name}`" if level else name, []).append(level)
        parts = []
        for name, where in found.items():
            every = len(where) == len(LEVELS) or where == [""]
            parts.append(name if every else f"{name} ({'; '.join(where)})")
        return ", ".join(parts) or "none"

    fixed = [rows[name, ""] for name in FIXED]
    scores = [f"{row['mean'][0]:.3f} and {row['mean'][1]:.3f}" for row in fixed]
    noise = np.mean([row["noise"] for row in list(rows.values())[1:]], axis=0)
    top = max(rows, key=lambda name: rows[name]["change"].min())
    return (
        f"Equal weights give an IoU and an accuracy of {scores[0]}, the box 30 times "
        f"as heavy {scores[1]}. **Both tasks**: "
        f"{those(lambda row: row['gets'].all())}. **The box, at the type's cost**: "
        f"{those(lambda row: row['gets'][0] and not row['gets'][1])}. **The type, at "
        f"the box's cost**: {those(lambda row: row['gets'][1] and not row['gets'][0])}."
        f" **Neither**: {those(lambda row: not row['gets'].any())}. (A name without a "
        "level: at all of them.) Within 0.03 of always naming the most frequent type, "
        "so that the type was not learned: "
        f"{those(lambda row: row['mean'][1] < majority + 0.03)}. Training diverged, a "
        "loss ending higher than it began or not finite, in some seed: "
        f"{those(lambda row: row['diverged'])}. Unsteady, a loss of a later epoch more "
        "than 5% above the first epoch's, in some seed: "
        f"{those(lambda row: row['unsteady'])}. First by the worse change is "
        f"{title(top)}. Over {number} seeds a mean difference from equal weights is "
        f"uncertain by about {noise[0]:.3f} in IoU and {noise[1]:.3f} in accuracy (its "
        "standard error): the order of neighbours is not to be relied on."
    )


def main():
    options = arguments()
    runs = run_all(options)
    if not complete(runs):
        print("No page: no seed has run for all rows.")
        return
    text = page(runs, options.data)
    if options.short:
        print(text)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
