"""What a training step with a balancer costs, against a plain one.

A trunk of four Dense(512) layers with K heads, batch 256, is trained by

- ``plain``: a training model with fixed weights and no balancer: the reference;
- each balancer at the representation, and a few at the parameters and calibrated;
- on torch, if it is installed, TorchJD's ``mtl_backward`` with the same aggregator, in
  a plain torch loop over the same net, against a plain torch loop.

All live in one process and take turns, drawn anew each round. A turn trains through
stock ``fit``; its first step isn't timed. The reference takes a turn before and after
every three others, which are compared with the mean of these two, since a machine may
be slower for a while. The median over the rounds is reported with its quartiles; those
of the reference are of one of its turns against the one before, so that they show the
noise. The device that Keras uses is printed.

    KERAS_BACKEND=jax python benchmarks/step_cost.py
    KERAS_BACKEND=torch python benchmarks/step_cost.py --heads 8 --methods UPGrad MGDA

A head is one Dense layer, whose gradients needn't be written out. With a hidden layer
in each head they are:

    KERAS_BACKEND=jax python benchmarks/step_cost.py --hidden 64

With heads that are convolutions of size 1, on two Conv2D(32) layers over 16 images of
32 x 32 pixels:

    KERAS_BACKEND=jax python benchmarks/step_cost.py --pixels

With an input for each branch, all of them through one trunk of four Dense(384) layers,
256 rows each, as the points of a differential equation come. There an exact pass walks
each branch's calls once. On a machine that others use, take the processor's time:

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch python benchmarks/step_cost.py --inputs \
        --heads 3 8 --methods --exact ConFIG --processor-time
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lossweigh as lw

BATCH, FEATURES, UNITS = 256, 64, 512
UNITS_OF_INPUTS = 384
IMAGES, IMAGE = 16, (32, 32)
METHODS = [
    name
    for name in lw.__all__
    if isinstance(getattr(lw, name), type)
    and issubclass(getattr(lw, name), lw.Balancer)
    and getattr(lw, name) not in (lw.Balancer, lw.DualCone)  # this for K = 2 only
]
LEVELS = {
    "parameters": {"level": "parameters"},
    "parameters / 10": {"level": lw.Parameters(update_every=10)},
    "calibrated / 25": {"level": lw.Calibrated(update_every=25)},
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[3, 8, 20], help="K")
    parser.add_argument(
        "--methods", nargs="*", default=METHODS, choices=METHODS, metavar="METHOD"
    )
    parser.add_argument(
        "--exact",
        nargs="*",
        default=["UPGrad", "MGDA"],
        choices=METHODS,
        metavar="METHOD",
        help="those to time at the parameters and calibrated too (K up to 8)",
    )
    parser.add_argument(
        "--hidden",
        type=int,
        default=0,
        metavar="UNITS",
        help="the size of a hidden layer in each head; 0 for none",
    )
    parser.add_argument(
        "--pixels", action="store_true", help="images, and a head for each pixel"
    )
    parser.add_argument(
        "--inputs", action="store_true", help="an input for each branch, one trunk"
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="of all threads, instead of the clock's",
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds")
    parser.add_argument(
        "--steps",
        type=int,
        default=50,
        help="timed steps a round; a multiple of 50 has a refresh every 10 and every "
        "25 steps as often as it is due, wherever it begins",
    )
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.heads, options.rounds, options.steps = [3], 2, 3
    return options


def limit(backend, level, num_heads, inputs):
    """What a step may cost, as a ratio; None where nothing is promised."""
    if inputs:
        exact = 1.40 if backend == "torch" else 1.25
        return exact if level == "parameters" else None
    if level == "representation":
        return 1.20 if backend == "torch" else 1.10 if num_heads <= 8 else 1.25
    if num_heads > 8:
        return None
    limits = {
        "parameters": (1 + 2 * num_heads) / 3,
        "parameters / 10": 1.5 if num_heads == 8 else None,
        "calibrated / 25": 1.25 if num_heads == 8 else None,
    }
    return limits[level]


def of_features(names, head_units):
    """Four shared Dense layers, and a Dense layer in each head."""
    inputs = keras.Input((FEATURES,))
    hidden = inputs
    for _ in range(4):
        hidden = keras.layers.Dense(UNITS, activation="relu")(hidden)
    outputs = {}
    for name in names:
        head = hidden
        if head_units:
            head = keras.layers.Dense(head_units, activation="relu")(head)
        outputs[name] = keras.layers.Dense(1, name=name)(head)
    return inputs, outputs


def of_pixels(names):
    """Two shared convolutions, and one of size 1 in each head."""
    inputs = keras.Input((*IMAGE, 3))
    hidden = inputs
    for _ in range(2):
        hidden = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(hidden)
    return inputs, {
        name: keras.layers.Conv2D(1, 1, name=name)(hidden) for name in names
    }


def of_inputs(names):
    """Four Dense layers that each branch calls on its own input, and a head each."""
    trunk = [
        keras.layers.Dense(UNITS_OF_INPUTS, activation="tanh", name=f"shared_{depth}")
        for depth in range(4)
    ]
    inputs = [keras.Input((FEATURES,), name=f"input_{name}") for name in names]
    outputs = {}
    for name, hidden in zip(names, inputs, strict=True):
        for layer in trunk:
            hidden = layer(hidden)
        outputs[name] = keras.layers.Dense(1, name=name)(hidden)
    return inputs, outputs


def build(num_heads, balancer, options):
    keras.utils.set_random_seed(0)
    names = [f"head_{k}" for k in range(num_heads)]
    if options.inputs:
        inputs, outputs = of_inputs(names)
    elif options.pixels:
        inputs, outputs = of_pixels(names)
    else:
        inputs, outputs = of_features(names, options.hidden)
    model = lw.build_training_model(
        keras.Model(inputs, outputs),
        dict.fromkeys(names, "mse"),
        lw.FixedWeights(),
        balancer,
    )
    model.compile("adam")
    return model


def make_data(num_heads, steps, pixels=False, inputs=False):
    """One batch more than is timed."""
    random = np.random.default_rng(0)
    if inputs:
        shape = (num_heads, BATCH * (steps + 1), FEATURES)
        x = list(random.normal(size=shape).astype("float32"))
        return x, {f"head_{k}": np.sin(rows[:, :1]) for k, rows in enumerate(x)}
    if pixels:
        x = random.normal(size=(IMAGES * (steps + 1), *IMAGE, 3)).astype("float32")
        y = {f"head_{k}": np.sin(x[..., k % 3 : k % 3 + 1]) for k in range(num_heads)}
        return x, y
    x = random.normal(size=(BATCH * (steps + 1), FEATURES)).astype("float32")
    y = {
        f"head_{k}": np.sin(x[:, [k % FEATURES]] * x[:, [(k + 1) % FEATURES]])
        for k in range(num_heads)
    }
    return x, y


class Timer(keras.callbacks.Callback):
    """Seconds from the end of the first step of an epoch to the end of the last."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            float(logs["loss"])  # waits for what was only sent to the device
            self.start = self.clock()

    def on_epoch_end(self, epoch, logs=None):
        float(logs["loss"])
        self.seconds = self.clock() - self.start


def keras_turn(model, x, y, steps, clock):
    timer = Timer(clock)
    rows = len(next(iter(y.values()))) // (steps + 1)
    model.fit(x, y, batch_size=rows, shuffle=False, verbose=0, callbacks=[timer])
    return timer.seconds / steps


def torch_sides(num_heads, steps, methods, head_units):
    """Plain torch loops over the same net: summed losses, and TorchJD's aggregators."""
    import torch
    import torchjd
    from torchjd.aggregation import IMTLG, MGDA, AlignedMTL, DualProj, PCGrad, UPGrad

    device = "cuda" if torch.cuda.is_available() else "cpu"
    same = {c.__name__: c for c in (IMTLG, MGDA, AlignedMTL, DualProj, PCGrad, UPGrad)}
    x, y = make_data(num_heads, steps)
    x = torch.as_tensor(x, device=device)
    y = [torch.as_tensor(value, device=device) for value in y.values()]

    def head():
        if not head_units:
            return torch.nn.Linear(UNITS, 1)
        return torch.nn.Sequential(
            torch.nn.Linear(UNITS, head_units),
            torch.nn.ReLU(),
            torch.nn.Linear(head_units, 1),
        )

    def side(aggregator):
        torch.manual_seed(0)
        layers = []
        for size in (FEATURES, UNITS, UNITS, UNITS):
            layers += [torch.nn.Linear(size, UNITS), torch.nn.ReLU()]
        trunk = torch.nn.Sequential(*layers).to(device)
        heads = [head().to(device) for _ in range(num_heads)]
        net = torch.nn.ModuleList([trunk, *heads])
        optimizer = torch.optim.Adam(net.parameters(), foreach=True)

        def turn():
            for step in range(steps + 1):
                if step == 1:
                    start = time.perf_counter()
                rows = slice(step * BATCH, (step + 1) * BATCH)
                shared = trunk(x[rows])
                losses = [
                    torch.nn.functional.mse_loss(head(shared), target[rows])
                    for head, target in zip(heads, y, strict=True)
                ]
                optimizer.zero_grad()
                if aggregator is None:
                    sum(losses).backward()
                else:
                    torchjd.autojac.mtl_backward(losses, features=shared)
                    torchjd.autojac.jac_to_grad(list(trunk.parameters()), aggregator)
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / steps

        return turn

    sides = {"torch loop": side(None)}
    for name in methods:
        if name in same:
            sides[f"TorchJD {name}"] = side(same[name]())
    return sides


def device_name(backend):
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details
        return details(gpus[0]).get("device_name", gpus[0].name) if gpus else "CPU"
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def time_heads(backend, num_heads, options):
    """The Keras sides' levels, seconds a step and ratios: {side: [one a turn]}."""
    x, y = make_data(num_heads, options.steps, options.pixels, options.inputs)
    clock = time.process_time if options.processor_time else time.perf_counter
    keras_sides, levels = {}, {}

    def add(side, level, balancer):
        model = build(num_heads, balancer, options)
        keras_sides[side] = lambda: keras_turn(model, x, y, options.steps, clock)
        levels[side] = level

    add("plain", None, None)
    for name in options.methods:
        add(name, "representation", getattr(lw, name)(level="representation"))
    if num_heads <= 8:
        for name in options.exact:
            for level, given in LEVELS.items():
                add(f"{name} {level}", level, getattr(lw, name)(**given))
    groups = [keras_sides]
    if backend == "torch" and not (options.pixels or options.inputs):
        methods, units = options.exact, options.hidden
        groups.append(torch_sides(num_heads, options.steps, methods, units))
    seconds = {side: [] for sides in groups for side in sides}
    ratios = {side: [] for side in seconds}
    random = np.random.default_rng(0)
    for number in range(options.rounds + 1):
        for sides in groups:
            for side, taken, ratio in one_round(sides, random):
                if number > 0:  # the first round compiles
                    seconds[side].append(taken)
                    ratios[side].append(ratio)
    return levels, seconds, ratios


def one_round(sides, random):
    """Each side once, among turns of the first of them, the reference.

    Yields:
        The side, its seconds, and what they are of the reference's.
    """
    reference, *others = sides
    others = random.permutation(others) if others else []
    before = sides[reference]()
    for begin in range(0, max(len(others), 1), 3):
        taken = [(side, sides[side]()) for side in others[begin : begin + 3]]
        after = sides[reference]()
        yield reference, after, after / before
        for side, seconds in taken:
            yield side, seconds, 2 * seconds / (before + after)
        before = after


def main():
    options = arguments()
    backend = keras.backend.backend()
    report = {
        "backend": backend,
        "keras": keras.__version__,
        "backend_version": __import__(backend).__version__,
        "device": device_name(backend),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "hidden": options.hidden,
        "pixels": options.pixels,
        "inputs": options.inputs,
        "processor_time": options.processor_time,
        "rounds": options.rounds,
        "steps": options.steps,
        "rows": [],
    }
    net = f"batch {BATCH}, trunk 4 x {UNITS}, " + (
        f"{options.hidden} hidden units a head"
        if options.hidden
        else "one layer a head"
    )
    if options.inputs:
        net = f"batch {BATCH}, K inputs through a trunk 4 x {UNITS_OF_INPUTS}"
    if options.pixels:
        net = f"{IMAGES} images of {IMAGE}, two convolutions, one of size 1 a head"
    print(
        f"Keras {report['keras']}, {backend} {report['backend_version']} on "
        f"{report['device']}, {report['cores']} cores; {options.rounds} rounds of "
        f"{options.steps} steps, {net}\n"
    )
    print(f"{'K':>3}  {'':<30}{'ms':>8}{'ratio':>8}{'quartiles':>14}{'limit':>7}")
    for num_heads in options.heads:
        levels, seconds, ratios = time_heads(backend, num_heads, options)
        for side, values in seconds.items():
            low, middle, high = np.percentile(ratios[side], [25, 50, 75])
            level = levels.get(side)
            most = None
            if level is not None:
                most = limit(backend, level, num_heads, options.inputs)
            row = {
                "heads": num_heads,
                "side": side,
                "milliseconds": float(np.median(values) * 1e3),
                "ratio": float(middle),
                "quartiles": [float(low), float(high)],
                "limit": most,
            }
            report["rows"].append(row)
            print(
                f"{num_heads:>3}  {side:<30}{row['milliseconds']:>8.2f}"
                f"{middle:>8.2f}{f'{low:.2f}-{high:.2f}':>14}"
                + ("" if most is None else f"{most:>7.2f}")
                + ("  missed" if most is not None and middle > most else ""),
                flush=True,
            )
        keras.backend.clear_session()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(f"\nWritten: {options.json}")


if __name__ == "__main__":
    main()
