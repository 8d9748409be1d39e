"""Two tasks of a recommender, click and like: shared bottom, MMoE and PLE.

PLE comes nearest to the true chances of a click and the shared bottom to those of a
like; weightings change less than networks do, and no more than the seeds differ.

A visitor clicks or doesn't, and who has clicked may like what is there: who hasn't
has no label for the second task, `missing=-1`. The data are drawn, and the chances that
they are drawn with are known; each task's chance is a bent function of a direction of
its own, 60 degrees from the other's. Three networks with about as many parameters:
a shared bottom; MMoE (Ma et al. 2018), four experts that all are mixed by a gate a
task; and PLE (Tang et al. 2020), with two shared experts and one a task that the other
doesn't see. Each is trained with equal weights, with learned ones, and with a balancer
of the gradients. The excess is the mean KL divergence of the predicted chance from the
true one, in thousandths of a nat: 0 is perfect, and no label's luck is in it.

    python examples/recommender.py
    KERAS_BACKEND=torch python examples/recommender.py --seeds 1

It takes about three minutes; a table and a picture are written.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from matplotlib.figure import Figure

import lossweigh as lw

TASKS = {"click": "#2f6fb0", "like": "#e0812b"}  # and their colors
FEATURES, ANGLE = 16, np.pi / 3
WEIGHTINGS = {
    "equal weights": dict,
    "Uncertainty": lambda: {"weighter": lw.Uncertainty()},
    "PCGrad": lambda: {"balancer": lw.PCGrad(level="representation")},
}


def draw_data(number, seed):
    """Features, the labels with -1 for unknown ones, and the true chances."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(number, FEATURES)).astype("float32")
    fixed = np.random.default_rng(0)  # the two directions are the world's
    one, other = np.linalg.qr(fixed.normal(size=(FEATURES, 2)))[0].T
    directions = [one, np.cos(ANGLE) * one + np.sin(ANGLE) * other]
    chances = {}
    for task, direction in zip(TASKS, directions, strict=True):
        s = x @ direction
        chances[task] = 1 / (1 + np.exp(-(s + 1.5 * np.sin(2 * s) - 0.5)))
    y = {t: (random.random(number) < p).astype("float32") for t, p in chances.items()}
    y["like"] = np.where(y["click"] == 1, y["like"], -1)
    return x, y, chances


def expert(*units):
    return keras.Sequential([layers.Dense(n, activation="relu") for n in units])


def mixed(x, experts):
    """A mixture of the experts' outputs, by a gate of its own."""
    gate = layers.Dense(len(experts), activation="softmax")(x)
    return layers.Dot(axes=1)([gate, ops.stack(experts, axis=1)])


def shared_bottom(x):
    return dict.fromkeys(TASKS, expert(76, 36)(x))


def mmoe(x):
    experts = [expert(32, 16)(x) for _ in range(4)]
    return {task: mixed(x, experts) for task in TASKS}


def ple(x):
    shared = [expert(32, 16)(x) for _ in range(2)]
    return {task: mixed(x, [*shared, expert(32, 16)(x)]) for task in TASKS}


NETWORKS = {"shared bottom": shared_bottom, "MMoE": mmoe, "PLE": ple}


def build(network):
    x = keras.Input((FEATURES,), name="visit")
    outputs = {}
    for task, hidden in NETWORKS[network](x).items():
        hidden = layers.Dense(8, activation="relu")(hidden)
        outputs[task] = layers.Dense(1, activation="sigmoid", name=task)(hidden)
    return keras.Model(x, outputs)


def excess(true, said):
    """The mean KL divergence of the predicted chances, in thousandths of a nat."""
    said = np.clip(said.ravel(), 1e-6, 1 - 1e-6)
    terms = true * np.log(true / said) + (1 - true) * np.log((1 - true) / (1 - said))
    return 1000 * terms.mean()


def train(network, weighting, seed, epochs, data):
    """The excess of each task on new visits, and how many parameters there are."""
    keras.utils.set_random_seed(seed)
    (x, y, _), (new_x, _, chances) = data
    model = build(network)
    losses = {
        task: lw.BranchLoss(
            "binary_crossentropy", missing=-1 if task == "like" else None
        )
        for task in TASKS
    }
    training = lw.build_training_model(model, losses, **WEIGHTINGS[weighting]())
    steps = epochs * -(-len(x) // 128)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    training.compile(keras.optimizers.Adam(rate))
    training.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    said = model.predict(new_x, batch_size=4096, verbose=0)
    return [excess(chances[task], said[task]) for task in TASKS], model.count_params()


def in_words(table):
    """What the table shows, `(weightings, seeds, tasks)` for each network."""
    means = {n: runs.mean(axis=(1, 2)) for n, runs in table.items()}
    equal = {n: mean[0] for n, mean in means.items()}
    best = min(equal, key=equal.get)
    words = f"With equal weights {best} is nearest to the true chances. "
    index = int(np.argmin(means[best]))
    if index == 0:
        return words + "No other weighting comes nearer with it."
    name = list(WEIGHTINGS)[index]
    gains = table[best][0].mean(axis=1) - table[best][index].mean(axis=1)
    return words + (
        f"{name} comes {gains.mean() / equal[best]:.0%} nearer with it, in "
        f"{(gains > 0).sum()} of {len(gains)} seeds."
    )


def draw(path, table):
    figure = Figure((7, 5), layout="constrained")
    axes = figure.subplots()
    rows = [(n, w) for n in range(len(NETWORKS)) for w in range(len(WEIGHTINGS))]
    runs = list(table.values())
    for column, (task, color) in enumerate(TASKS.items()):
        for row, (n, w) in enumerate(rows):
            values = runs[n][w, :, column]
            axes.plot(values, [row + n] * len(values), "o", color=color, alpha=0.3)
            (mean,) = axes.plot(values.mean(), row + n, "D", color=color, ms=8)
        mean.set_label(task)
    labels = [f"{list(NETWORKS)[n]}, {list(WEIGHTINGS)[w]}" for n, w in rows]
    axes.set_yticks([row + n for row, (n, _) in enumerate(rows)], labels)
    axes.set(xlabel="excess, thousandths of a nat: the mean, and each seed", xlim=0)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--short", action="store_true", help="one seed, few visits")
    parser.add_argument("--out", type=Path, default=Path("recommender"))
    options = parser.parse_args(arguments)
    seeds, epochs = (1, 2) if options.short else (options.seeds, options.epochs)
    data = draw_data(2000 if options.short else 20000, 1), draw_data(10000, 2)
    bar = keras.utils.Progbar(
        seeds * len(NETWORKS) * len(WEIGHTINGS), width=20, unit_name="network"
    )
    table, sizes = {}, {}
    for network in NETWORKS:
        table[network] = np.zeros((len(WEIGHTINGS), seeds, len(TASKS)))
        for row, column in np.ndindex(len(WEIGHTINGS), seeds):
            given = network, list(WEIGHTINGS)[row], column, epochs, data
            table[network][row, column], sizes[network] = train(*given)
            bar.add(1)
    print(f"\nExcess in thousandths of a nat, mean ± spread of {seeds} seeds\n")
    print(f"{'':<15}{'parameters':<12}{'weighting':<16}{'click':<15}like")
    for network, results in table.items():
        for weighting, runs in zip(WEIGHTINGS, results, strict=True):
            cells = zip(runs.mean(0), runs.std(0), strict=True)
            print(f"{network:<15}{sizes[network]:<12}{weighting:<16}", end="")
            print("   ".join(f"{m:5.1f} ± {s:4.1f}" for m, s in cells))
    print(f"\n{in_words(table)}")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "recommender.png", table)
    print(f"Written: {options.out / 'recommender.png'}")
    return table


if __name__ == "__main__":
    main()
