"""What a training model must give, in NumPy and float64, without a network's library.

The network is `tanh(x W + b)`, from which each output is a `Dense` layer. Everything
that isn't linear is differentiated by differences.
"""

import dataclasses
import itertools
from collections.abc import Callable

import hypothesis
import numpy as np

STEP = 1e-6  # of the central differences


# Losses of predictions -----------------------------------------------------------


def identity(z):
    return z


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def huber(y, p):
    error = np.abs(y - p)
    return np.where(error <= 1, error**2 / 2, error - 0.5)


def cross_entropy(y, p):
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def of_class(y, p):
    """Minus the logarithm of the probability of class y."""
    y = np.asarray(y, int)[..., None]
    return -np.log(np.take_along_axis(p, y, -1))[..., 0]


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss of an output.

    Args:
        values: From targets and predictions to a value an element, or a value a vector
            of the last axis.
        activation: From what `Dense` gives to predictions.
        elementwise: Whether `values` gives a value an element.
        target: "number", "binary", "one-hot" or "index".
    """

    values: Callable
    activation: Callable = identity
    elementwise: bool = True
    target: str = "number"


LOSSES = {
    "mse": Loss(lambda y, p: (y - p) ** 2),
    "mae": Loss(lambda y, p: np.abs(y - p)),
    "huber": Loss(huber),
    "log_cosh": Loss(lambda y, p: np.log(np.cosh(y - p))),
    "binary_crossentropy": Loss(cross_entropy, sigmoid, target="binary"),
    "logits": Loss(lambda y, z: np.logaddexp(0, z) - y * z, target="binary"),
    "categorical_crossentropy": Loss(
        lambda y, p: -(y * np.log(p)).sum(-1), softmax, False, "one-hot"
    ),
    "sparse_categorical_crossentropy": Loss(of_class, softmax, False, "index"),
    "sparse_logits": Loss(
        lambda y, z: of_class(y, softmax(z)), elementwise=False, target="index"
    ),
    "largest_error": Loss(lambda y, p: np.abs(y - p).max(-1), elementwise=False),
}


# Weighters: the total of the losses of the branches that are present ---------------


class Adam:
    """What learns the parameter of each branch, with the methods' rates."""

    def __init__(self, number, rate=0.02):
        self.rate, self.value = rate, np.zeros(number)
        self.first, self.second = np.zeros(number), np.zeros(number)
        self.steps = np.zeros(number)

    def descend(self, gradient, present):
        gradient = np.clip(gradient, -2, 2)
        self.steps[present] += 1
        first = 0.9 * self.first + 0.1 * gradient
        second = 0.999 * self.second + 0.001 * gradient**2
        self.first[present], self.second[present] = first[present], second[present]
        steps = np.maximum(self.steps, 1)
        mean, square = first / (1 - 0.9**steps), second / (1 - 0.999**steps)
        move = self.rate * mean / (np.sqrt(square) + 1e-8)
        self.value = np.where(present, self.value - move, self.value)


def uncertainty(losses, values, scale):
    return scale * np.exp(-values) * losses + values / 2


def impartial(losses, values, scale):
    return np.exp(values) * losses - values


LEARNED = {"Uncertainty": uncertainty, "IMTLL": impartial}


def total_of(name, losses, weights, values, scale):
    """The total of the losses `(k,)` of the branches that are present.

    Args:
        name: Of the weighter.
        losses: `(k,)`.
        weights: `(k,)`, for `FixedWeights`.
        values: `(k,)`, what is learned.
        scale: `(k,)`, 0.5 for a regression and 1 for a classification.
    """
    if name == "FixedWeights":
        return weights @ losses
    if name == "GeometricMean":
        return np.exp(np.log(losses).mean()) if len(losses) else 0.0
    if name == "LogSum":
        return np.log(losses).sum()
    return LEARNED[name](losses, values, scale).sum()


def slopes(function, point):
    """The gradient of a function of `(k,)` by central differences."""
    steps = STEP * np.eye(len(point))
    return np.array([(function(point + s) - function(point - s)) for s in steps]) / (
        2 * STEP
    )


# Balancers: weights from the gradients, one a row -----------------------------------


def least(gramian, bounds, equality=False):
    """argmin v' G v for v >= bounds (and sum v = 1), by all sets of active bounds."""
    number = len(gramian)
    best, lowest = None, np.inf
    for free in itertools.product([False, True], repeat=number):
        free = np.array(free)
        if equality and not free.any():
            continue
        v = bounds.copy()
        inner = gramian[np.ix_(free, free)]
        if equality:
            solved = np.linalg.lstsq(inner, np.ones(free.sum()), rcond=None)[0]
            v[free] = solved / solved.sum() if abs(solved.sum()) > 1e-12 else np.nan
        elif free.any():
            pull = -gramian[np.ix_(free, ~free)] @ v[~free]
            v[free] = np.linalg.lstsq(inner, pull, rcond=None)[0]
        if not (v >= bounds - 1e-9).all():  # also for nan
            continue
        if (value := v @ gramian @ v) < lowest - 1e-12:
            best, lowest = v, value
    return best


def mgda(jacobian):
    return least(jacobian @ jacobian.T, np.zeros(len(jacobian)), equality=True)


def up_grad(jacobian):
    gramian, number = jacobian @ jacobian.T, len(jacobian)
    gramian = gramian + 1e-4 * np.trace(gramian) * np.eye(number)
    return sum(least(gramian, row / number) for row in np.eye(number))


def imtl_g(jacobian):
    gramian = jacobian @ jacobian.T
    v = np.linalg.pinv(gramian) @ np.sqrt(np.diag(gramian))
    return v / v.sum()


def config(jacobian):
    lengths = np.linalg.norm(jacobian, axis=1)
    units = jacobian / lengths[:, None]
    b = np.linalg.pinv(units @ units.T) @ np.ones(len(units))
    u = units.T @ b
    u_length = np.linalg.norm(u)
    return (jacobian @ u).sum() / u_length**2 * b / lengths


BALANCERS = {"MGDA": mgda, "UPGrad": up_grad, "IMTLG": imtl_g, "ConFIG": config}


# A training ------------------------------------------------------------------------


def elements(tensor, rank):
    """With axes of size 1 at the end, to this rank."""
    return tensor.reshape(tensor.shape + (1,) * (rank - tensor.ndim))


def branch_loss(branch, y, z, weight, mask):
    """A branch's loss of a batch, its gradient by z, and how many elements count.

    Args:
        branch: A `cases.Branch`.
        y: Targets, nan where one is missing.
        z: `(batch, ..., size)`, what `Dense` gives.
        weight: Sample weights, or `None`.
        mask: Bool, or `None`.
    """
    loss = LOSSES[branch.loss]
    y = np.asarray(y, float)
    if loss.target == "index" and y.ndim == z.ndim:
        y = y[..., 0]
    y = y.reshape(z.shape) if loss.target != "index" else y
    labelled = ~np.isnan(y)
    if not loss.elementwise and loss.target != "index":
        labelled = np.broadcast_to(labelled.all(-1, keepdims=True), y.shape)
    y = np.where(labelled, y, 0)
    shape = z.shape if loss.elementwise else z.shape[:-1]
    valid = labelled if loss.elementwise or loss.target == "index" else labelled[..., 0]
    if mask is not None:
        valid = valid & elements(mask, len(shape))
    s = np.ones(shape)
    if weight is not None:
        if weight.ndim > 1 and weight.shape[-1] == 1 and weight.ndim > len(shape):
            weight = weight[..., 0]
        s = s * elements(weight, len(shape))
    if branch.class_weight:
        classes = y.argmax(-1) if loss.target == "one-hot" else y.astype(int)
        table = np.array([branch.class_weight.get(i, 1.0) for i in range(branch.size)])
        if loss.target == "binary":
            table = np.array([branch.class_weight.get(i, 1.0) for i in range(2)])
        s = s * table[classes]
    number = valid.sum()
    share = s * valid / max(number, 1)
    if branch.normalize == "keras2":
        weighing = (s != 0).mean()
        share = share / weighing if weighing else 0 * share

    def values(z):
        return loss.values(y, loss.activation(z))

    def change(direction):
        return (values(z + STEP * direction) - values(z - STEP * direction)) / (
            2 * STEP
        )

    if loss.elementwise:
        gradient = share * change(np.ones_like(z))
    else:
        units = np.eye(z.shape[-1])
        gradient = np.stack([share * change(unit) for unit in units], -1)
    return (share * values(z)).sum(), gradient, number


@dataclasses.dataclass
class Training:
    """The numbers of a training, and its steps.

    Args:
        case: A `cases.Case`.
        kernels: Of the trunk and of each output, each with its bias.
    """

    case: object
    kernels: list

    def __post_init__(self):
        self.kernels = [np.asarray(array, float) for array in self.kernels]
        self.adam = Adam(len(self.case.branches))
        tasks = [LOSSES[b.loss].target for b in self.case.branches]
        self.scale = np.array([0.5 if task == "number" else 1.0 for task in tasks])

    def passes(self, batch):
        """Each branch's loss, gradients and count, and the shared tensor."""
        hidden = np.tanh(batch.x @ self.kernels[0] + self.kernels[1])
        results = []
        for index, branch in enumerate(self.case.branches):
            kernel, bias = self.kernels[2 + 2 * index : 4 + 2 * index]
            z = hidden @ kernel + bias
            y, weight = batch.y[index], batch.weights[index]
            results.append(branch_loss(branch, y, z, weight, batch.mask))
        return hidden, results

    def totals(self, results):
        """The total, its slopes by the losses, and which branches are present."""
        losses = np.array([loss for loss, _, _ in results])
        present = np.array([number > 0 for _, _, number in results])
        if self.case.weighter != "FixedWeights":
            present &= losses > 0  # the other methods need that: a 0 is absent
        weights = np.array(self.case.weights)[present]
        values, scale = self.adam.value[present], self.scale[present]
        factors = np.zeros(len(losses))
        if self.case.weighter in ("GeometricMean", "LogSum"):
            hypothesis.assume((losses[present] > 1e-3).all())

        def total(losses, values):
            return total_of(self.case.weighter, losses, weights, values, scale)

        factors[present] = slopes(lambda ls: total(ls, values), losses[present])
        learning = np.zeros(len(losses))
        learning[present] = slopes(lambda vs: total(losses[present], vs), values)
        return total(losses[present], values), factors, learning, present

    def step(self, batch, rate):
        """Trains on a batch; what it logs: the total, losses and counts."""
        hidden, results = self.passes(batch)
        total, factors, learning, present = self.totals(results)
        above, updates = [], []
        for index, (_, gradient, _) in enumerate(results):
            kernel = self.kernels[2 + 2 * index]
            gradient = factors[index] * gradient
            flat = gradient.reshape(-1, gradient.shape[-1])
            updates += [hidden.reshape(len(flat), -1).T @ flat, flat.sum(0)]
            above.append(gradient @ kernel.T)
        rows = batch.x.reshape(-1, batch.x.shape[-1])

        def of_the_trunk(gradient):
            inner = (gradient * (1 - hidden**2)).reshape(len(rows), -1)
            return [rows.T @ inner, inner.sum(0)]

        balance = np.ones(len(results))
        if self.case.balancer:
            gradients = [[a] for a in above]
            if self.case.level == "parameters":
                gradients = [of_the_trunk(a) for a in above]
            flat = [np.concatenate([a.ravel() for a in arrays]) for arrays in gradients]
            balance = np.zeros(len(results))
            counted = np.array([number > 0 for _, _, number in results])
            if counted.any():
                jacobian = np.array(flat)[counted]
                self.case.check(jacobian)
                balance[counted] = BALANCERS[self.case.balancer](jacobian)
        updates = of_the_trunk(np.tensordot(balance, above, 1)) + updates
        self.kernels = [
            k - rate * u for k, u in zip(self.kernels, updates, strict=True)
        ]
        if self.case.weighter in LEARNED:
            self.adam.descend(learning, present)
        return total, results

    @staticmethod
    def logs(case, batches):
        """What an epoch logs, from each batch's rows, total and results."""
        rows = np.array([rows for rows, _, _ in batches], float)
        totals = np.array([total for _, total, _ in batches])
        logs = {"loss": (rows * totals).sum() / rows.sum()}
        for index, branch in enumerate(case.branches):
            losses = np.array([results[index][0] for _, _, results in batches])
            counts = np.array([results[index][2] for _, _, results in batches], float)
            logs[f"{branch.name}_loss"] = (counts * losses).sum() / max(counts.sum(), 1)
        return logs
