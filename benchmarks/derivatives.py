"""What derivatives by `lossweigh.layers.Derivatives` cost, against code by hand.

`u`, `u_t`, `u_x` and `u_xx` of a network of 5 layers of 50 tanh at 2,000 points: alone,
and in a training step, the mean square of Burgers' residual with its gradient for all
weights. By hand is what a user of the backend would write: two `tf.GradientTape`s,
`jax.jvp` of `jax.jvp`, two `torch.autograd.grad`. Beside it are other ways that a
backend has, also by hand, and the network alone by the layer and by itself. All is
compiled as `fit` does by itself: `jax.jit`, a `tf.function`, eager torch; with
`--compile`, XLA on TensorFlow. All take turns in one process, in another order each
round; a ratio is taken within a round, and the median over the rounds is reported with
its quartiles. Beside it is the ratio of the processor time of all threads, which other
processes disturb less.

    KERAS_BACKEND=jax python benchmarks/derivatives.py
    KERAS_BACKEND=tensorflow python benchmarks/derivatives.py --compile
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

from lossweigh.layers import Derivatives

WIDTH, DEPTH, POINTS, NU = 50, 5, 2000, 0.01 / np.pi
NAMES = ["u", "u_t", "u_x", "u_xx"]
LIMIT = 1.3
BY_HAND = "by hand"
BACKEND = keras.backend.backend()


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds")
    parser.add_argument("--steps", type=int, default=5, help="timed steps a round")
    parser.add_argument("--compile", action="store_true", help="see above")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument(
        "--short", action="store_true", help="does it run? (too few rounds to cite)"
    )
    options = parser.parse_args()
    if options.short:
        options.rounds, options.steps = 2, 1
    return options


def network():
    layers = [keras.layers.Dense(WIDTH, activation="tanh") for _ in range(DEPTH)]
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])


def ways_by_hand(network, compiled):
    """Name to a function from points to `u`, `u_t`, `u_x`, `u_xx`."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def backward(points):
            t, x = points[:, :1], points[:, 1:]
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch([t, x])
                    u = network(tf.concat([t, x], axis=1))
                u_t, u_x = inner.gradient(u, [t, x])
            return u, u_t, u_x, outer.gradient(u_x, x)

        def forward_over_backward(points):
            t, x = points[:, :1], points[:, 1:]
            with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as outer:
                with tf.GradientTape() as inner:
                    inner.watch([t, x])
                    u = network(tf.concat([t, x], axis=1))
                u_t, u_x = inner.gradient(u, [t, x])
            return u, u_t, u_x, outer.jvp(u_x)

        # XLA takes no column of what a ForwardAccumulator is watching.
        others = {} if compiled else {"ForwardAccumulator": forward_over_backward}
        return {BY_HAND: backward, **others}
    if BACKEND == "jax":
        import jax
        import jax.numpy as jnp

        def forward(points):
            t, x = points[:, :1], points[:, 1:]
            one = jnp.ones_like(x)

            def at(t, x):
                return network(jnp.concatenate([t, x], axis=1))

            def by_x(x):
                return jax.jvp(lambda x: at(t, x), (x,), (one,))

            u, u_t = jax.jvp(lambda t: at(t, x), (t,), (one,))
            (_, u_x), (_, u_xx) = jax.jvp(by_x, (x,), (one,))
            return u, u_t, u_x, u_xx

        def backward(points):
            def at(t, x):
                return network(jnp.stack([t, x])[None])[0, 0]

            def all_at(point):
                t, x = point
                u, (u_t, u_x) = jax.value_and_grad(at, (0, 1))(t, x)
                u_xx = jax.grad(jax.grad(at, 1), 1)(t, x)
                return u, u_t, u_x, u_xx

            return [column[:, None] for column in jax.vmap(all_at)(points)]

        return {BY_HAND: forward, "vmap of grad of grad": backward}
    import torch

    def backward(points):
        t, x = (column.clone().requires_grad_() for column in points.split(1, dim=1))
        u = network(torch.cat([t, x], dim=1))
        one = torch.ones_like(u)
        u_t, u_x = torch.autograd.grad(u, [t, x], one, create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x, [x], one, create_graph=True)
        return u, u_t, u_x, u_xx

    def forward(points):
        t, x = points.split(1, dim=1)
        one = torch.ones_like(x)

        def at(t, x):
            return network(torch.cat([t, x], dim=1))

        def by_x(x):
            return torch.func.jvp(lambda x: at(t, x), (x,), (one,))

        u, u_t = torch.func.jvp(lambda t: at(t, x), (t,), (one,))
        (_, u_x), (_, u_xx) = torch.func.jvp(by_x, (x,), (one,))
        return u, u_t, u_x, u_xx

    return {BY_HAND: backward, "torch.func.jvp": forward}


def loss(results):
    """The mean square of Burgers' residual, or of `u` alone."""
    u, *derived = results
    residual = u
    if derived:
        u_t, u_x, u_xx = derived
        residual = u_t + u * u_x - NU * u_xx
    return ops.mean(ops.square(residual))


def alone(function, points, compiled):
    """A function that computes the results, and waits."""
    if BACKEND == "jax":
        import jax

        run = jax.jit(function)
        return lambda: jax.block_until_ready(run(points))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(function, jit_compile=compiled)
        return lambda: run(points)[-1].numpy()
    return lambda: waited_for(function(points)[-1])


def step(function, network, points, compiled):
    """A function that computes the loss and its gradients, and waits."""
    variables = network.trainable_variables
    if BACKEND == "jax":
        import jax

        def of_values(values):
            mapping = zip(variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return loss(function(points))

        run = jax.jit(jax.value_and_grad(of_values))
        values = [variable.value for variable in variables]
        return lambda: jax.block_until_ready(run(values))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=compiled)
        def run():
            with tf.GradientTape() as tape:
                value = loss(function(points))
            return tape.gradient(value, [variable.value for variable in variables])

        return lambda: run()[0].numpy()
    import torch

    values = [variable.value for variable in variables]

    def run():
        value = loss(function(points))
        waited_for(torch.autograd.grad(value, values, allow_unused=True)[0])

    return run


def waited_for(tensor):
    return tensor.detach().cpu()


def turn(run, steps):
    """Seconds, and processor seconds, of a step."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(steps):
        run()
    return (np.array([time.perf_counter(), time.process_time()]) - start) / steps


def load():
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def cases(compiled):
    """Name to what runs it, and to the name of what it is compared with."""
    net = network()
    drawn = np.random.default_rng(0).uniform(-1, 1, (POINTS, 2)).astype("float32")
    points = ops.convert_to_tensor(drawn)
    u = Derivatives(net, variables=["t", "x"], outputs=["u"])
    ways = {"the layer": lambda points: list(u(points, NAMES).values())}
    ways.update(ways_by_hand(net, compiled))
    expected = [ops.convert_to_numpy(one) for one in ways[BY_HAND](points)]
    runs = {}
    for name, way in ways.items():
        for one, other in zip(way(points), expected, strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(one), other, atol=1e-4)
        runs[f"alone, {name}"] = alone(way, points, compiled), f"alone, {BY_HAND}"
        runs[f"step, {name}"] = step(way, net, points, compiled), f"step, {BY_HAND}"
    for name, way in {
        "the layer": lambda points: [u(points, ["u"])["u"]],
        BY_HAND: lambda points: [net(points)],
    }.items():
        runs[f"step of u, {name}"] = (
            step(way, net, points, compiled),
            f"step of u, {BY_HAND}",
        )
    return runs


def main():
    options = arguments()
    given = cases(options.compile)
    report = {
        "backend": BACKEND,
        "compile": options.compile,
        "keras": keras.__version__,
        "backend_version": __import__(BACKEND).__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "steps": options.steps,
        "rows": [],
    }
    print(
        f"Keras {report['keras']}, {BACKEND} {report['backend_version']}"
        f"{', compiled' if options.compile else ''}, {report['cores']} cores; "
        f"{options.rounds} rounds of {options.steps} steps, {POINTS} points, "
        f"{DEPTH} x {WIDTH}; load {load()}\n"
    )
    names = list(given)
    for name in names:
        turn(given[name][0], 2)  # compiles, and warms up
    taken = {name: [] for name in names}
    for number in range(options.rounds):
        shift = number % len(names)
        for name in (names[shift:] + names[:shift])[:: -1 if number % 2 else 1]:
            taken[name].append(turn(given[name][0], options.steps))
    taken = {name: np.array(times) for name, times in taken.items()}
    print(f"{'':<34}{'median ms':>10}{'ratio':>8}{'quartiles':>14}{'processor':>11}")
    for name, (_, other) in given.items():
        ratios = taken[name] / taken[other]
        low, middle, high = np.percentile(ratios[:, 0], [25, 50, 75])
        row = {
            "case": name,
            "milliseconds": float(np.median(taken[name][:, 0]) * 1e3),
            "ratio": float(middle),
            "quartiles": [float(low), float(high)],
            "processor_ratio": float(np.median(ratios[:, 1])),
        }
        report["rows"].append(row)
        print(
            f"{name:<34}{row['milliseconds']:>10.2f}{middle:>8.2f}"
            f"{f'{low:.2f}-{high:.2f}':>14}{row['processor_ratio']:>11.2f}"
            + ("  missed" if "the layer" in name and middle > LIMIT else "")
        )
    print(f"\nLoad at the end: {load()}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        print(f"Written: {options.json}")


if __name__ == "__main__":
    main()
