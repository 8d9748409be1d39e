"""Drawn gradients, and methods compiled as a training step compiles them."""

import functools
import json

import keras
import numpy as np
from keras import ops

from lossweigh import balancing
from lossweigh.balancing.base import StepStatistics

# The two gradients whose weights were worked out beside the papers.
JACOBIAN = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
GRAMIAN = JACOBIAN @ JACOBIAN.T

# Every method that is a function of the Gramian, with arguments that matter.
METHODS = {
    "AlignedMTL": {},
    "CAGrad": {},
    "ConFIG": {},
    "DualCone": {},
    "DualProj": {},
    "FairGrad": {"alpha": 2.0},
    "GradNorm": {},
    "GradVac": {},
    "IMTLG": {},
    "LearningRateAnnealing": {},
    "MGDA": {},
    "NashMTL": {},
    "NormBalancer": {},
    "PCGrad": {},
    "UPGrad": {},
}

TWO_BRANCHES = {"DualCone"}  # which balance no other number


def sizes_of(name, sizes):
    """Those of these numbers of branches that the method balances."""
    return tuple(num for num in sizes if num == 2 or name not in TWO_BRANCHES)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def make(name, **arguments):
    return getattr(balancing, name)(**{**METHODS[name], **arguments})


def compiled(function):
    """The function as the backend runs it in training."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if keras.backend.backend() == "jax":
        import jax

        # To compile takes far longer than to run: without LLVM's optimizations.
        options = {"xla_backend_optimization_level": 0}
        return jax.jit(function, compiler_options=options)
    import torch

    return torch.no_grad()(function)


@functools.cache
def _solver(name, arguments):
    return compiled(make(name, **json.loads(arguments)).solve)


@functools.cache
def _advance(name, config):
    balancer = getattr(balancing, name).from_config(json.loads(config))

    def advance(gramian, present, losses, mean_abs, draws, state):
        statistics = StepStatistics(gramian, present, losses, mean_abs, draws)
        return balancer.advance(statistics, state)

    return compiled(advance)


def solve(name, gramian, present=None, **arguments):
    """The weights by the compiled method, a NumPy array."""
    gramian = ops.convert_to_tensor(np.asarray(gramian), "float32")
    if present is not None:
        present = ops.convert_to_tensor(present, "bool")
    solver = _solver(name, json.dumps(arguments))
    found = solver(gramian) if present is None else solver(gramian, present)
    return array(found)


def walk(balancer, steps):
    """The weights of each step and the last state of a method with state.

    Args:
        balancer: A balancer.
        steps: For each step the arguments of `StepStatistics`; without
            `present`, all branches are.
    """

    config = balancer.get_config()
    advance = _advance(type(balancer).__name__, json.dumps(config))
    num = len(steps[0]["gramian"])
    state = {
        name: ops.convert_to_tensor(np.array(values, "float32"))
        for name, values in balancer.initial_state(num).items()
    }
    found = []
    for step in steps:
        full = {
            "present": np.ones(num, bool),
            "losses": np.ones(num),
            "mean_abs": np.ones(num),
            "draws": np.tile(np.arange(num) / num, (num, 1)),
            **step,
        }
        tensors = [
            ops.convert_to_tensor(
                np.asarray(full[key]), "bool" if key == "present" else "float32"
            )
            for key in ("gramian", "present", "losses", "mean_abs", "draws")
        ]
        weights, state = advance(*tensors, state)
        found.append(array(weights))
    return np.array(found), {name: array(values) for name, values in state.items()}


def drawn(number, seed=0, sizes=(2, 5, 16), kinds=None, log_scale=6):
    """Gradients, `(K, n)` float64 each: kinds and sizes in turn, any scale.

    Args:
        number: How many.
        seed: Of the draws.
        sizes: The K to choose from.
        kinds: Some of `KINDS`; all by default.
        log_scale: The scale is between 10 to the minus this and 10 to this.
    """
    rng = np.random.default_rng(seed)
    kinds = kinds or list(KINDS)
    for i in range(number):
        num = sizes[i // len(kinds) % len(sizes)]
        jacobian = KINDS[kinds[i % len(kinds)]](rng, num)
        yield jacobian * 10.0 ** rng.uniform(-log_scale, log_scale)


def _plain(rng, num):
    return rng.normal(size=(num, 3 * num))


def _conflicting(rng, num):
    """Two camps that pull apart."""
    signs = np.where(np.arange(num) % 2, 1.0, -1.0)
    return rng.normal(size=(num, 3 * num)) + 2 * signs[:, None] * rng.normal(
        size=3 * num
    )


def _deficient(rng, num):
    """Twice as many branches as dimensions."""
    rank = max(num // 2, 1)
    return rng.normal(size=(num, rank)) @ rng.normal(size=(rank, 2 * num))


def _lengths(rng, num):
    return _plain(rng, num) * 10.0 ** rng.uniform(-1, 1, size=(num, 1))


def _with_zero(rng, num):
    jacobian = _plain(rng, num)
    jacobian[rng.integers(num)] = 0
    return jacobian


KINDS = {
    "plain": _plain,
    "conflicting": _conflicting,
    "deficient": _deficient,
    "lengths": _lengths,
    "zero": _with_zero,
}


def parts(jacobian, weights):
    """How long the parts of the combined gradient are in all: what is rounded."""
    return (np.abs(weights) * np.linalg.norm(jacobian, axis=1)).sum()
