"""What a step with ConFIG costs on Burgers' equation, against a loop written by hand.

Both train the network of `examples/burgers.py` on the same points with ConFIG at the
parameters and Adam: lossweigh by the stock `fit`, and a loop as a user of the backend
would write it, with the derivatives of `derivatives.py`, a backward pass for each of
the three losses, and the backend's own Adam (JAX has none: five lines). The loop by
hand does nothing else: no logs, no callbacks, no data pipeline. Native Keras with the
plain sum of the losses, by `fit`, is beside them.

All take turns in one process, in another order each round; a ratio is taken within a
round, and the median over the rounds is reported with its quartiles. Before that, both
train from the same weights, and the weights must be equal.

    KERAS_BACKEND=jax python benchmarks/burgers_step.py
"""

import argparse
import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import burgers
import derivatives
import keras
import numpy as np
from keras import ops

import lossweigh as lw

BACKEND = derivatives.BACKEND
LIMIT, CHECKED = 1.3, 5  # the aim, and after how many steps the weights are compared
RATE, EPSILON = 1e-4, 1e-12  # Adam's; Keras and torch add epsilon in different places
example = burgers.example


def losses_by_hand(network, points, target):
    """The three losses, with derivatives written by hand."""
    function = derivatives.ways_by_hand(network, False)[derivatives.BY_HAND]
    u, u_t, u_x, u_xx = function(points["interior"])
    return [
        ops.mean(ops.square(network(points["initial"]) - target)),
        ops.mean(ops.square(network(points["boundary"]))),
        ops.mean(ops.square(u_t + u * u_x - example.NU * u_xx)),
    ]


def config_direction(matrix, norm, solve):
    """ConFIG of the rows of a matrix, `(3, P)`: the same cosine with each row."""
    units = matrix / norm(matrix, axis=1, keepdims=True)
    best = solve(units @ units.T, 0 * units[:, 0] + 1) @ units
    best = best / norm(best)
    return (matrix @ best).sum() * best


def by_hand(network, points, target):
    """A function that trains for so many steps, and waits."""
    points = {name: ops.convert_to_tensor(one[0]) for name, one in points.items()}
    target = ops.convert_to_tensor(target[0])
    if BACKEND == "tensorflow":
        return by_hand_tensorflow(network, points, target)
    if BACKEND == "jax":
        return by_hand_jax(network, points, target)
    return by_hand_torch(network, points, target)


def by_hand_tensorflow(network, points, target):
    import tensorflow as tf

    variables = [variable.value for variable in network.trainable_variables]
    sizes = [variable.shape.num_elements() for variable in variables]
    optimizer = keras.optimizers.Adam(RATE, epsilon=EPSILON)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            losses = losses_by_hand(network, points, target)
        rows = [
            tf.concat(
                [tf.reshape(one, [-1]) for one in tape.gradient(loss, variables)], 0
            )
            for loss in losses
        ]
        matrix = tf.stack(rows)
        units = matrix / tf.norm(matrix, axis=1, keepdims=True)
        gram = tf.matmul(units, units, transpose_b=True)
        best = tf.matmul(
            tf.linalg.solve(gram, tf.ones((3, 1))), units, transpose_a=True
        )
        best = best[0] / tf.norm(best)
        direction = tf.reduce_sum(tf.linalg.matvec(matrix, best)) * best
        parts = tf.split(direction, sizes)
        optimizer.apply_gradients(
            [
                (tf.reshape(part, variable.shape), variable)
                for part, variable in zip(
                    parts, network.trainable_variables, strict=True
                )
            ]
        )
        return losses[0]

    def run(steps):
        for _ in range(steps):
            last = step()
        last.numpy()

    return run


def by_hand_jax(network, points, target):
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    variables = network.trainable_variables
    state = [jnp.array(variable.value) for variable in variables]
    flat, unravel = ravel_pytree(state)
    moments = jnp.zeros_like(flat), jnp.zeros_like(flat), 0

    def losses(values):
        mapping = zip(variables, unravel(values), strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            return losses_by_hand(network, points, target)

    @jax.jit
    def step(values, first, second, number):
        rows = [jax.grad(lambda v, k=k: losses(v)[k])(values) for k in range(3)]
        matrix = jnp.stack(rows)
        direction = config_direction(matrix, jnp.linalg.norm, jnp.linalg.solve)
        number = number + 1
        first = 0.9 * first + 0.1 * direction
        second = 0.999 * second + 0.001 * direction**2
        rate = RATE * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
        return (
            values - rate * first / (jnp.sqrt(second) + EPSILON),
            first,
            second,
            number,
        )

    def run(steps):
        nonlocal flat, moments
        for _ in range(steps):
            flat, *moments = step(flat, *moments)
        jax.block_until_ready(flat)
        for variable, value in zip(variables, unravel(flat), strict=True):
            variable.assign(value)

    return run


def by_hand_torch(network, points, target):
    import torch

    values = [variable.value for variable in network.trainable_variables]
    optimizer = torch.optim.Adam(values, lr=RATE, eps=EPSILON)

    def norm(tensor, axis=None, keepdims=False):
        return torch.linalg.vector_norm(tensor, dim=axis, keepdim=keepdims)

    def run(steps):
        for _ in range(steps):
            losses = losses_by_hand(network, points, target)
            rows = []
            for number, loss in enumerate(losses):
                grads = torch.autograd.grad(loss, values, retain_graph=number < 2)
                rows.append(torch.cat([one.reshape(-1) for one in grads]))
            matrix = torch.stack(rows)
            direction = config_direction(matrix, norm, torch.linalg.solve)
            parts = direction.split([value.numel() for value in values])
            for value, part in zip(values, parts, strict=True):
                value.grad = part.reshape(value.shape)
            optimizer.step()
        derivatives.waited_for(values[0])

    return run


class SamePoints(keras.utils.PyDataset):
    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


def by_lossweigh(network, points, target):
    model = example.build_model(network)
    training = lw.build_training_model(
        model, example.losses(), balancer=lw.ConFIG(level="parameters")
    )
    training.compile(keras.optimizers.Adam(RATE, epsilon=EPSILON))
    batch = points, {"start": target}
    return lambda steps: training.fit(SamePoints(batch, steps), verbose=0)


def plain_sum(network, points, target):
    model = example.build_model(network)
    zeros = {"ends": np.zeros((1, 50, 1)), "equation": np.zeros((1, 2000, 1))}
    model.compile(
        keras.optimizers.Adam(RATE, epsilon=EPSILON), dict.fromkeys(model.output, "mse")
    )
    batch = points, {"start": target, **zeros}
    return lambda steps: model.fit(SamePoints(batch, steps), verbose=0)


def cases(points, target):
    """Name to a function of a number of steps, after a look that they train alike."""
    ways = {"by hand": by_hand, "lossweigh": by_lossweigh, "plain sum": plain_sum}
    networks = {name: example.build_network() for name in ways}
    first = networks["by hand"].get_weights()
    for network in networks.values():
        network.set_weights(first)
    runs = {name: way(networks[name], points, target) for name, way in ways.items()}
    for run in runs.values():
        run(CHECKED)
    expected = networks["by hand"].get_weights()
    flat = [
        np.concatenate([one.ravel() for one in weights])
        for weights in (first, expected, networks["lossweigh"].get_weights())
    ]
    difference = np.linalg.norm(flat[2] - flat[1]) / np.linalg.norm(flat[1] - flat[0])
    assert difference < 0.002, f"They differ by {difference:.2g} of how far they moved."
    print(
        f"After {CHECKED} steps: {difference:.1g} of how far the weights moved apart."
    )
    return runs


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--steps", type=int, default=100, help="timed steps a round")
    parser.add_argument("--short", action="store_true", help="does it run?")
    options = parser.parse_args()
    rounds, steps = (1, 2) if options.short else (options.rounds, options.steps)
    keras.utils.set_random_seed(0)
    points, targets = example.Points(1, 0)[0]
    runs = cases(points, targets["start"])
    names = [*runs]
    taken = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in (names[shift:] + names[:shift])[:: -1 if number % 2 else 1]:
            run = functools.partial(runs[name], steps)
            taken[name].append(derivatives.turn(run, 1) / steps)
    print(f"Keras {keras.__version__}, {BACKEND}; {rounds} rounds of {steps} steps")
    print(f"{'':<14}{'median ms':>10}{'to hand':>9}{'quartiles':>14}{'processor':>11}")
    for name in names:
        ratios = np.array(taken[name]) / np.array(taken["by hand"])
        low, middle, high = np.percentile(ratios[:, 0], [25, 50, 75])
        milliseconds = np.median(np.array(taken[name])[:, 0]) * 1e3
        print(
            f"{name:<14}{milliseconds:>10.2f}{middle:>9.2f}{f'{low:.2f}-{high:.2f}':>14}"
            f"{np.median(ratios[:, 1]):>11.2f}"
            + ("  missed" if name == "lossweigh" and middle > LIMIT else "")
        )


if __name__ == "__main__":
    main()
