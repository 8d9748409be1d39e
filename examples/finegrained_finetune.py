"""Fine-tuning with two answers, which kind and which breed, and two learning rates.

Trained alone, the heads name 46% of the held-out tiles of twelve pictures, and 88% when
the backbone learns too, at a tenth of their rate.

`--images` holds a folder a class, named coarse-fine, as `dog-labrador`; the default is
tiles of scikit-image's own pictures. A backbone of `keras.applications` has a head for
each part of the name. First the heads learn alone, then the backbone too, at a lower
rate, by `MultiOptimizer`. Batch normalization is frozen by `trainable = False`: calling
`backbone(x, training=False)` isn't enough, `fit` overrules it (Keras 3.15). Without
`--weights`, its statistics are of training images. Needs matplotlib and scikit-image.

    python examples/finegrained_finetune.py --images dogs --weights imagenet --size 299
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import callbacks, layers, optimizers, utils
from skimage import data

import lossweigh as lw

HEADS = "coarse", "fine"
PICTURES = ["surface-brick", "surface-grass", "surface-gravel", "text-page", "sky-moon"]
PICTURES += ["text-text", "sky-hubble_deep_field", "tissue-retina", "photo-coffee"]
PICTURES += ["tissue-immunohistochemistry", "photo-coins", "photo-astronaut"]


def make_images(folder, rows):
    """Saves square tiles of each picture, which share no pixel, in a folder a class."""
    for name in PICTURES:
        picture = np.atleast_3d(getattr(data, name.split("-")[1])())
        side = min(picture.shape[:2]) // rows
        (folder / name).mkdir()
        for y, x in np.ndindex(*(length // side for length in picture.shape[:2])):
            tile = picture[y * side : (y + 1) * side, x * side : (x + 1) * side]
            utils.save_img(folder / name / f"{y}-{x}.png", tile, scale=False)


def load_images(root, size, seed):
    """Batches to train on and held-out ones, and the names of the classes."""
    given = {"validation_split": 0.2, "subset": "both", "seed": seed, "batch_size": 16}
    sets = utils.image_dataset_from_directory(root, image_size=(size, size), **given)
    fine = sets[0].class_names
    if wrong := [name for name in fine if "-" not in name]:
        raise ValueError(f"A class must be named coarse-fine. Received: {wrong[0]!r}.")
    for path in sets[0].file_paths + sets[1].file_paths:
        try:
            tf.image.decode_image(tf.io.read_file(path), 3, expand_animations=False)
        except tf.errors.OpError as error:
            raise ValueError(f"{path} can't be read: {error.message}") from None
    coarse = sorted({name.split("-")[0] for name in fine})
    of = tf.constant([coarse.index(name.split("-")[0]) for name in fine])
    sets = [
        some.map(lambda x, y: (x, {"coarse": tf.gather(of, y), "fine": y}))
        for some in sets
    ]
    return *sets, {"coarse": coarse, "fine": fine}


def build_models(name, weights, size, names):
    image, shape = keras.Input((size, size, 3), name="image"), (size, size, 3)
    if name == "small":
        stack = [layers.Conv2D(64, 5, 4), layers.BatchNormalization(), layers.ReLU()]
        backbone = keras.Sequential([*stack, layers.GlobalMaxPooling2D()])
    else:
        settings = {"include_top": False, "weights": weights, "input_shape": shape}
        backbone = getattr(keras.applications, name)(pooling="avg", **settings)
    features = backbone(layers.Rescaling(1 / 127.5, offset=-1)(image))
    heads = {h: layers.Dense(len(names[h]), "softmax", name=h) for h in HEADS}
    return backbone, keras.Model(image, {h: heads[h](features) for h in HEADS})


def fine_tune(backbone, predictor, train, held_out, options):
    frozen = [n for n in backbone.layers if isinstance(n, layers.BatchNormalization)]
    if options.weights is None:
        for layer in frozen:
            layer.momentum = 0.0  # keep the statistics of this one batch
        images, _ = next(iter(train.unbatch().batch(128)))
        backbone(images.numpy() / 127.5 - 1, training=True)
    losses = dict.fromkeys(HEADS, "sparse_categorical_crossentropy")
    training = lw.build_training_model(predictor, losses, lw.RevisedUncertainty())
    bar, logs = utils.Progbar(sum(options.epochs) * len(train), width=20), {}
    tick = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: bar.add(1))
    settings = {"validation_data": held_out, "shuffle": False, "callbacks": [tick]}
    for phase, epochs in enumerate(options.epochs):  # the heads, then the backbone too
        for layer in backbone.layers:
            layer.trainable = phase > 0 and layer not in frozen
        high, low = (optimizers.Adam(rate) for rate in options.rates)
        slow = {variable.path: low for variable in backbone.trainable_variables}
        both = optimizers.MultiOptimizer(optimizers.OptimizerMap(high, slow))
        training.compile(both, metrics={head: ["accuracy"] for head in HEADS})
        history = training.fit(train, epochs=epochs, verbose=0, **settings).history
        logs = {key: logs.get(key, []) + values for key, values in history.items()}
    return logs


def draw(path, logs, start):
    figure = lw.plot_training(logs)
    for axes in figure.axes:
        axes.axvline(start + 0.5, color="grey", ls=":")
    figure.suptitle("Right of the dotted line the backbone learns too")
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder; default: some are made")
    parser.add_argument("--backbone", default="Xception", help="or MobileNetV2, small")
    parser.add_argument("--weights", help="imagenet (downloaded) or a file")
    parser.add_argument("--size", type=int, default=71, help="of the images, in pixels")
    parser.add_argument("--epochs", type=int, nargs=2, default=[2, 5])
    parser.add_argument("--rates", type=float, nargs=2, default=[1e-3, 1e-4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="small, few images")
    parser.add_argument("--out", type=Path, default=Path("finegrained_finetune"))
    options = parser.parse_args(arguments)
    if options.short:
        options.backbone, options.size, options.epochs = "small", 48, [1, 2]
    utils.set_random_seed(options.seed)
    with tempfile.TemporaryDirectory() as made:
        if options.images is None:
            make_images(Path(made), 2 if options.short else 4)
        *sets, names = load_images(options.images or made, options.size, options.seed)
        models = build_models(options.backbone, options.weights, options.size, names)
        logs = fine_tune(*models, *sets, options)
    print(f"\n{'held-out accuracy':<20}heads alone   backbone too")
    for head in HEADS:
        values = logs[f"val_{head}_accuracy"][options.epochs[0] - 1 :]
        print(f"{head:<7}of {len(names[head]):<10}{values[0]:<14.3f}{values[-1]:.3f}")
    options.out.mkdir(parents=True, exist_ok=True)
    models[1].save(options.out / "predictor.keras")
    draw(options.out / "finegrained_finetune.png", logs, options.epochs[0])
    print(f"\nWritten: {options.out / 'finegrained_finetune.png'}")
    return logs


if __name__ == "__main__":
    main()
