"""Balancers on real images, at each level: does the box cost the class its accuracy?

Photographs of blood, each with the box and the type of one white cell. A small network
with shared convolutions and two heads is trained under fixed weights, with each
weighter and with each balancer at the representation, at the parameters, at the
parameters with weights refreshed every 10 or 25 steps, and calibrated. Reported are the
mean intersection over union (IoU) of the boxes and the accuracy of the types on images
that were held out. A page of tables is written as Markdown, and a picture.

    KERAS_BACKEND=tensorflow python benchmarks/balancers.py --data cells.npz

The archive, by default `../shared/data/bccd_wbc_96x128.npz`, holds `x` (uint8 images:
number, height, width, 3), `box` (x1 y1 x2 y2, each in 0..1) and `y` (class indices).
Every run is a line of the file `--results`; runs that are in there already aren't
repeated, so the benchmark can be stopped, continued, and its page written at any time.
The file beside this script holds the published runs, so that without arguments their
page is written again; name a new file to repeat them (440 runs, 10 to 25 s each).
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import balancers_page
import data_files
import keras
import numpy as np
from keras import layers

import lossweigh as lw

ROOT = Path(__file__).parent.parent
LOSSES = {"box": "huber", "label": "sparse_categorical_crossentropy"}
FOLDS, BATCH, EPOCHS, RATE = 5, 32, 16, 2e-3
LEVELS = {
    "representation": {"level": "representation"},
    "parameters": {"level": "parameters"},
    "parameters, every 10": {"level": lw.Parameters(update_every=10)},
    "parameters, every 25": {"level": lw.Parameters(update_every=25)},
    "calibrated, every 25": {"level": lw.Calibrated(update_every=25)},
}
FIXED = {"fixed 1 : 1": 1.0, "fixed 30 : 1": 30.0}
NEITHER = {"Weighter", "FixedWeights"}  # the base, and what `FIXED` has
WEIGHTERS = [name for name in lw.weighting.__all__ if name not in NEITHER]
BALANCERS = {  # and their levels: GradDrop has no other than the representation
    name: ["representation"] if name == "GradDrop" else list(LEVELS)
    for name in lw.balancing.__all__
    if name != "Balancer"
}
ROWS = [
    *((name, "") for name in (*FIXED, *WEIGHTERS)),
    *((name, level) for name, those in BALANCERS.items() for level in those),
]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=data_files.CELLS, help="the images"
    )
    parser.add_argument("--seeds", type=int, default=FOLDS, help=f"up to {FOLDS}")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these")
    lines = Path(__file__).with_suffix(".jsonl")
    parser.add_argument("--results", type=Path, default=lines, help="one line a run")
    docs = ROOT / "docs"
    page = docs / "methods" / "balancers-table.md"
    parser.add_argument("--out", type=Path, default=page, help="the Markdown file")
    png = docs / "images" / "balancers.png"
    parser.add_argument("--picture", type=Path, default=png, help="the PNG file")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (prints, keeps nothing)"
    )
    return parser.parse_args()


def load(path, seed):
    """Images to train on, in all four mirrorings, and those of fold `seed`."""
    with np.load(data_files.need(path, data_files.ABOUT_CELLS)) as archive:
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


def main():
    options = arguments()
    runs = run_all(options)
    table = balancers_page.Table(runs, ROWS, list(FIXED), list(LEVELS))
    if not table.seeds:
        print("No page: no seed has run for all rows.")
        return
    with np.load(data_files.need(options.data, data_files.ABOUT_CELLS)) as archive:
        types = np.bincount(archive["y"])
    settings = {"types": types, "rate": RATE, "batch": BATCH, "epochs": EPOCHS}
    text = balancers_page.page(table, **settings)
    if options.short:
        print(text)
        return
    for path in (options.out, options.picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    balancers_page.draw(options.picture, table)
    print(f"Written: {options.out} and {options.picture}")


if __name__ == "__main__":
    main()
