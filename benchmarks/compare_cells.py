"""Weightings on blood cells, where and of which type, by `lossweigh.compare`.

    KERAS_BACKEND=torch python benchmarks/compare_cells.py --jobs 2

339 photographs at half their size, 48 x 64, with one white cell each. The losses are
the mean absolute error of the box and the crossentropy of the cell's type; the metrics
are the mean intersection over union of the boxes, and the accuracy of the types.
"""

import comparing
import data_files
import keras
import numpy as np
from keras import layers

TYPES, BATCH, EPOCHS = 4, 32, 15


def load(path, short):
    """A fifth is for validation and a fifth for the test; the rest is mirrored, too."""
    with np.load(data_files.need(path, data_files.ABOUT_CELLS)) as archive:
        images, boxes, types = archive["x"], archive["box"], archive["y"]
    number, height, width, channels = images.shape
    images = images.reshape(number, height // 2, 2, width // 2, 2, channels)
    images = images.mean((2, 4), dtype="float32") / 255
    order = np.random.default_rng(0).permutation(number)[: 120 if short else None]
    cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
    parts = {
        part: (images[rows], {"box": boxes[rows], "type": types[rows]})
        for part, rows in zip(
            ["train", "validation", "test"], np.split(order, cuts), strict=True
        )
    }
    x, y = parts["train"]
    mirrored = y["box"][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    y = {
        "box": np.concatenate([y["box"], mirrored]).astype("float32"),
        "type": np.tile(y["type"], 2),
    }
    return {**parts, "train": (np.concatenate([x, x[:, :, ::-1]]), y)}


def build():
    inputs = keras.Input((48, 64, 3), name="photograph")
    shared = layers.Rescaling(2.0, offset=-1.0)(inputs)
    shared = layers.Conv2D(16, 5, 2, padding="same", activation="relu")(shared)
    for filters in (24, 32):
        shared = layers.Conv2D(filters, 3, padding="same", activation="relu")(shared)
        shared = layers.MaxPooling2D()(shared)
    shared = layers.Dropout(0.3)(layers.Flatten()(shared))
    shared = layers.Dense(64, activation="relu")(shared)
    box = layers.Dense(4, activation="sigmoid", name="box")(shared)
    kind = layers.Dense(TYPES, activation="softmax", name="type")(shared)
    losses = {"box": "mae", "type": "sparse_categorical_crossentropy"}
    return keras.Model(inputs, {"box": box, "type": kind}), losses


def iou(y_true, y_pred):
    """The mean intersection over union."""
    sides = np.minimum(y_true, y_pred)[:, 2:] - np.maximum(y_true, y_pred)[:, :2]
    shared = sides.clip(0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clip(0).prod(1) for box in (y_true, y_pred)]
    return float((shared / (areas[0] + areas[1] - shared)).mean())


def experiments(options):
    data = load(options.data or data_files.CELLS, options.short)
    metric = {"box": (iou, "max"), "type": "sparse_categorical_accuracy"}
    yield comparing.Experiment("cells", build, data, metric, EPOCHS, BATCH)


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
