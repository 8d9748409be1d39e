"""Training models, and batches that differ from replica to replica.

Used in processes of their own: the number of devices is set before a backend starts.
"""

import keras
import numpy as np
from nets import sequences, two_heads

import lossweigh as lw

ROWS, BATCH = 24, 8
MISSING = {
    "zeta": lambda: lw.BranchLoss("mse", missing="nan"),
    "alpha": lambda: lw.BranchLoss("sparse_categorical_crossentropy", missing=-1),
}
PLAIN = {"zeta": lambda: "mse", "alpha": lambda: "sparse_categorical_crossentropy"}
KERAS2 = {
    "zeta": lambda: lw.BranchLoss("mse", missing="nan", normalize="keras2"),
    "alpha": MISSING["alpha"],
    "centre": lambda: lw.BranchLoss(
        lw.losses.Center(4), of="zeta", target="alpha", target_dtype="int32", missing=-1
    ),
}


def no_balancer():
    return None


def at_each_step(balancer):
    """A balancer of the default level, which looks at the parameters in each step."""

    def make():
        level = balancer(seed=1).level
        if isinstance(level, lw.Parameters):
            level = lw.Parameters(update_every=1)
        return balancer(level=level, seed=1)

    return make


def weighters():
    """The weighter alone, by name: all of them."""
    names = [name for name in lw.weighting.__all__ if name != "Weighter"]
    return {name: (MISSING, getattr(lw, name), no_balancer) for name in names}


def balancers():
    """The balancer alone, by name: all but `GradDrop`, which draws for each element."""
    names = set(lw.balancing.__all__) - {"Balancer", "GradDrop"}
    classes = [getattr(lw, name) for name in sorted(names)]
    return {
        one.__name__: (MISSING, lw.FixedWeights, at_each_step(one))
        for one in classes
        if isinstance(one, type) and issubclass(one, lw.Balancer)
    }


OTHERS = {
    "complete": (PLAIN, lw.Uncertainty, no_balancer),
    "keras2": (KERAS2, lw.FixedWeights, no_balancer),
    "both": (MISSING, lw.FAMO, lambda: lw.GradNorm()),
    "parameters": (MISSING, lw.DWA, lambda: lw.UPGrad(level="parameters")),
    "mean sizes": (
        MISSING,
        lw.FixedWeights,
        lambda: lw.LearningRateAnnealing(level="representation"),
    ),
    "calibrated": (
        MISSING,
        lw.FixedWeights,
        lambda: lw.MGDA(level=lw.Calibrated(update_every=1)),
    ),
}
NOW_AND_THEN = {
    "parameters now and then": (
        MISSING,
        lw.FixedWeights,
        lambda: lw.NashMTL(level=lw.Parameters(update_every=2)),
    ),
    "calibrated now and then": (
        MISSING,
        lw.FixedWeights,
        lambda: lw.MGDA(level=lw.Calibrated(update_every=2)),
    ),
}


def points(weights):
    """Weights of points alone: each has two rows, and some have no label."""

    def loss():
        return lw.BranchLoss("mse", missing="nan", point_weights=weights())

    return ({**MISSING, "zeta": loss}, lw.FixedWeights, no_balancer)


POINTS = {
    "ResidualAttention": points(lambda: lw.points.ResidualAttention(12, initial=1.0)),
    "SelfAdaptive": points(lambda: lw.points.SelfAdaptive(12, learning_rate=0.1)),
    "Causal": points(lambda: lw.points.Causal(12, 3, epsilons=[0.05])),
}
MASKED = {
    "masked": (MISSING, lw.Uncertainty, lambda: lw.GradNorm()),
}
COMPILED = {"FAMO", "masked", "SelfAdaptive"}
if keras.backend.backend() == "jax":  # in several processes it scatters compiled only
    COMPILED |= {*POINTS}
FEW = (
    "FixedWeights",
    "LossWeighter",
    "FAMO",
    "NashMTL",
    "parameters",
    "masked",
    *POINTS,
)


def all_cases():
    """All that trains on several devices as on one."""
    return {**weighters(), **balancers(), **OTHERS, **MASKED, **POINTS}


def other_cases():
    """What some backends refuse."""
    return NOW_AND_THEN


def build(name, case):
    """A training model of the case, the same each time."""
    keras.utils.set_random_seed(0)
    losses, weighter, balancer = case
    net = sequences() if name in MASKED else two_heads()
    training = lw.build_training_model(
        net, {branch: loss() for branch, loss in losses.items()}, weighter(), balancer()
    )
    training.compile(keras.optimizers.SGD(0.1), run_eagerly=name not in COMPILED)
    return training


def data(name):
    """`x` and `y`; the parts of a batch have their labels for different branches."""
    random = np.random.default_rng(3)
    steps = (5,) if name in MASKED else ()
    if steps:
        x = random.integers(1, 7, (ROWS, *steps))
        x[np.arange(5) >= random.integers(1, 6, (ROWS, 1))] = 0
    else:
        x = random.normal(size=(ROWS, 4)).astype("float32")
    zeta = random.normal(size=(ROWS, *steps, 3)).astype("float32") * 3
    alpha = random.integers(0, 4, (ROWS, *steps))
    if name != "complete":
        zeta[random.random(ROWS) < 0.5] = np.nan
        zeta[8:12] = np.nan  # a half of the second batch has no label
        alpha[random.random(ROWS) < 0.3] = -1
    if name in POINTS:  # the second row of a point is on another device
        row = np.arange(ROWS)
        x = {"x": x, "zeta_index": (4 * (row // BATCH) + row % 4).astype("int32")}
    return x, {"zeta": zeta, "alpha": alpha}


def numbers(training):
    """All numbers of a training model, in its order: path and values."""
    return [
        (variable.path, keras.ops.convert_to_numpy(variable).tolist())
        for variable in training.weights
    ]
