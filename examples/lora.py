"""Fine-tuning with LoRA: several tasks in the one output of a small language model.

Small parts with 22% of the weights learn all three tasks about as well as all weights
do (49 to 62% of the digits, and 52 to 70%); equal weights are best, and `Uncertainty`
gives one task all and loses the others.

A transformer of two blocks reads four digits and writes four. It is pretrained, from
random weights, to repeat what it has read. Then all of its weights are frozen, and
`enable_lora` gives each of its Dense layers a small trainable part, which learns to add
one to each digit, or to take it from nine, and is to keep repeating. A sequence is a
sign for the task, the digits, and the answer. All tasks have the model's one output;
each is a branch of it, with a target whose steps are -1 where the sequence is another
task's, and while it is being read:

    "nines": lw.BranchLoss(LOSS, of="next", target="nines", missing=-1)

So each task has a loss, a weight and a line in the logs of its own. `predictor.save`
writes the sum of both parts: the file is an ordinary model.

    python examples/lora.py
    KERAS_BACKEND=torch python examples/lora.py --short

It takes about three minutes; a table and a picture are written.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

import lossweigh as lw

TASKS = {  # what a digit is to become
    "repeat": lambda digits: digits,
    "add_one": lambda digits: (digits + 1) % 10,
    "nines": lambda digits: 9 - digits,
}
COLORS = dict(zip(TASKS, ["#5f6368", "#2f6fb0", "#e0812b"], strict=True))
LENGTH, TOKENS, WIDTH = 4, 10 + len(TASKS), 64
LOSS = "sparse_categorical_crossentropy"
FULL = "all weights, equal"
WEIGHTERS = {
    "equal weights": lw.FixedWeights,
    "Uncertainty": lw.Uncertainty,
    "DWA": lw.DWA,
}


def draw_sequences(number, seed, tasks):
    """Sequences `(number, steps)`, and the next token by task."""
    random = np.random.default_rng(seed)
    digits = random.integers(10, size=(number, LENGTH))
    which = random.integers(len(tasks), size=number)
    answers = np.stack([TASKS[task](digits) for task in tasks])
    answers = answers[which, np.arange(number)]
    signs = 10 + np.array([list(TASKS).index(task) for task in tasks])[which]
    tokens = np.column_stack([signs, digits, answers])
    targets = {}
    for index, task in enumerate(tasks):
        target = np.full((number, 2 * LENGTH), -1)
        target[which == index, LENGTH:] = answers[which == index]
        targets[task] = target
    return tokens[:, :-1], targets


@keras.saving.register_keras_serializable(package="lora")
class Positions(layers.Layer):
    """Adds a learned vector to each step."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=shape[1:], initializer="normal")

    def call(self, x):
        return x + self.vectors


def build():
    """Token to next token's probabilities, and its Dense layers."""
    tokens = keras.Input((2 * LENGTH,), dtype="int32", name="tokens")
    x = Positions()(layers.Embedding(TOKENS, WIDTH)(tokens))
    dense = []

    def project(x, units, activation=None):
        dense.append(layers.Dense(units, activation))
        return dense[-1](x)

    for _ in range(2):
        normed = layers.LayerNormalization()(x)
        query, value, key = (project(normed, WIDTH) for _ in range(3))
        heads = layers.Attention(use_scale=True)
        read = heads([query, value, key], use_causal_mask=True)
        x = layers.Add()([x, project(read, WIDTH)])
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, project(project(normed, 2 * WIDTH, "gelu"), WIDTH)])
    x = layers.LayerNormalization()(x)
    out = layers.Dense(TOKENS, activation="softmax", name="next")(x)
    return keras.Model(tokens, out), dense


def branches(tasks):
    return {t: lw.BranchLoss(LOSS, of="next", target=t, missing=-1) for t in tasks}


def fit(predictor, weighter, tasks, number, epochs, rate):
    """Trains on sequences of the tasks; returns the History."""
    training = lw.build_training_model(predictor, branches(tasks), weighter)
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-number // 64))
    training.compile(keras.optimizers.Adam(decay))
    data = draw_sequences(number, 1, tasks)
    return training.fit(*data, batch_size=64, epochs=epochs, verbose=0).history


def freeze_all_but_lora(predictor, dense, rank):
    for layer in predictor.layers:
        layer.trainable = layer in dense
    for layer in dense:
        layer.enable_lora(rank)


def accuracies(predictor):
    """The share of right digits in the answers to new sequences, by task."""
    tokens, targets = draw_sequences(3000, 2, list(TASKS))
    said = predictor.predict(tokens, batch_size=1000, verbose=0).argmax(axis=-1)
    return [np.mean((said == y)[y >= 0]) for y in targets.values()]


def note(rows, name, trained, predictor):
    """Adds a row to the table, and prints it."""
    rows[name] = trained, accuracies(predictor)
    cells = "".join(f"{value:>10.3f}" for value in rows[name][1])
    print(f"{name:<22}{trained:>8}{cells}", flush=True)


def in_words(rows):
    """What the table shows."""
    lora = {name: rows[name][1] for name in WEIGHTERS}
    worst = {name: min(values) for name, values in lora.items()}
    best = max(worst, key=worst.get)
    share = rows[best][0] / rows[FULL][0]
    words = (
        f"LoRA trains {share:.0%} of the weights and gets {worst[best]:.0%} of the "
        f"digits right in its worst task, all of them {min(rows[FULL][1]):.0%}; "
    )
    if best == "equal weights":
        return words + "no other weighting beats equal weights."
    equal = worst["equal weights"]
    return words + f"that is with {best}, and {equal:.0%} with equal weights."


def draw(path, rows, histories):
    figure = Figure((7, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 4])
    for column, (task, color) in enumerate(COLORS.items()):
        values = [row[1][column] for row in rows.values()]
        above.plot(values, list(rows), "D", color=color, ms=8, label=task, alpha=0.8)
        for name, style in zip(WEIGHTERS, ("-", "--", ":"), strict=True):
            below.semilogy(histories[name][f"{task}_loss"], style, color=color)
    for name, style in zip(WEIGHTERS, ("-", "--", ":"), strict=True):
        below.plot([], style, color="black", label=name)
    above.invert_yaxis()
    above.set_xlabel("share of right digits")
    below.set(xlabel="epoch", ylabel="loss", xmargin=0)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", type=int, default=8, help="of the trainable parts")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="few sequences, one epoch")
    parser.add_argument("--out", type=Path, default=Path("lora"))
    options = parser.parse_args(arguments)
    number, epochs = (640, 1) if options.short else (12800, options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    predictor, _ = build()
    fit(predictor, lw.FixedWeights(), ["repeat"], number, epochs, 3e-3)
    start, rows, histories = predictor.get_weights(), {}, {}
    print(f"{'':<22}{'trained':>8}" + "".join(f"{task:>10}" for task in TASKS))
    note(rows, "pretrained", 0, predictor)
    for name in (FULL, *WEIGHTERS):
        keras.utils.set_random_seed(options.seed)
        predictor, dense = build()
        predictor.set_weights(start)
        weighter = lw.FixedWeights() if name == FULL else WEIGHTERS[name]()
        if name != FULL:
            freeze_all_but_lora(predictor, dense, options.rank)
        rate = 3e-3 if name == FULL else 5e-3
        trained = sum(int(np.prod(v.shape)) for v in predictor.trainable_variables)
        histories[name] = fit(predictor, weighter, TASKS, number, epochs, rate)
        note(rows, name, trained, predictor)
    predictor.save(options.out / "predictor.keras")
    loaded = keras.saving.load_model(options.out / "predictor.keras")
    apart = np.abs(np.subtract(accuracies(loaded), rows[name][1])).max()
    print(f"\n{in_words(rows)}")
    print(f"The saved model's accuracies differ by {apart:.3f}.")
    draw(options.out / "lora.png", rows, histories)
    print(f"Written: {options.out / 'lora.png'}")
    return rows


if __name__ == "__main__":
    main()
