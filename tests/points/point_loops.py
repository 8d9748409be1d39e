"""The three methods as naive loops in NumPy, and calls of the layers."""

import numpy as np
from keras import ops

import lossweigh as lw

NUM_POINTS = 7
SLICES = [0, 2, 1, 0, 2, 1, 1]


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


class AttentionLoop:
    def __init__(self, number=NUM_POINTS, gamma=0.999, eta=0.01, initial=0.0):
        self.state = np.full(number, initial)
        self.gamma, self.eta = gamma, eta

    def step(self, losses, index):
        """The weights of a batch's rows; `losses` are those of the rows that count."""
        losses = mean_by_point(losses, index)
        largest = max(np.sqrt(loss) for loss in losses.values())
        for point, loss in losses.items():
            relative = np.sqrt(loss) / largest if largest > 0 else 0.0
            self.state[point] = self.gamma * self.state[point] + self.eta * relative
        return self.state[index] ** 2


class AscentLoop:
    def __init__(self, number=NUM_POINTS, learning_rate=0.1, initial=1.0):
        self.state = np.full(number, initial)
        self.rate = learning_rate

    def weight(self, p):
        return p**2

    def slope(self, p):
        return 2 * p

    def rise(self, point, gradient):
        return gradient

    def step(self, losses, index):
        before = self.state.copy()
        for point in set(index.tolist()):
            rows = [loss for loss, at in zip(losses, index, strict=True) if at == point]
            gradient = self.slope(before[point]) * sum(rows) / len(index)
            self.state[point] += self.rate * self.rise(point, gradient)
        return self.weight(before[index])


class SigmoidLoop(AscentLoop):
    def weight(self, p):
        return 1 / (1 + np.exp(-p))

    def slope(self, p):
        return self.weight(p) * (1 - self.weight(p))


class AdamLoop(AscentLoop):
    def __init__(self, number=NUM_POINTS, learning_rate=0.1):
        super().__init__(number, learning_rate)
        self.first, self.second, self.steps = np.zeros((3, number))

    def rise(self, point, gradient):
        self.steps[point] += 1
        self.first[point] = 0.9 * self.first[point] + 0.1 * gradient
        self.second[point] = 0.999 * self.second[point] + 0.001 * gradient**2
        mean = self.first[point] / (1 - 0.9 ** self.steps[point])
        square = self.second[point] / (1 - 0.999 ** self.steps[point])
        return mean / (np.sqrt(square) + 1e-7)


class CausalLoop:
    def __init__(self, slices=SLICES, epsilons=(0.01, 0.1, 1, 10, 100), threshold=0.99):
        self.slices = np.array(slices)
        self.epsilons, self.threshold, self.level = epsilons, threshold, 0
        self.means = [None] * (max(slices) + 1)

    @property
    def state(self):
        return np.array([0.0 if mean is None else mean for mean in self.means])

    def step(self, losses, index):
        slices = self.slices[index]
        for k in range(len(self.means)):
            if (slices == k).any():
                self.means[k] = losses[slices == k].mean()
        epsilon = self.epsilons[self.level]
        before = np.cumsum([0, *self.state[:-1]])
        weights = np.exp(-epsilon * before)
        if None not in self.means and min(weights) > self.threshold:
            self.level = min(self.level + 1, len(self.epsilons) - 1)
        return weights[slices]


def mean_by_point(losses, index):
    points = sorted(set(index.tolist()))
    return {point: losses[index == point].mean() for point in points}


# The layer, its loop, and the state of the layer that the loop's `state` is.
METHODS = {
    "attention": (
        lambda n=NUM_POINTS: lw.points.ResidualAttention(n, gamma=0.9, eta=0.3),
        lambda n=NUM_POINTS: AttentionLoop(n, gamma=0.9, eta=0.3),
        "attention",
    ),
    "ascent": (
        lambda n=NUM_POINTS: lw.points.SelfAdaptive(
            n, optimizer="sgd", learning_rate=0.1
        ),
        AscentLoop,
        "parameters",
    ),
    "sigmoid": (
        lambda n=NUM_POINTS: lw.points.SelfAdaptive(
            n, optimizer="sgd", learning_rate=0.1, transform="sigmoid"
        ),
        SigmoidLoop,
        "parameters",
    ),
    "adam": (
        lambda n=NUM_POINTS: lw.points.SelfAdaptive(n, learning_rate=0.1),
        AdamLoop,
        "parameters",
    ),
    "causal": (
        lambda n=NUM_POINTS: lw.points.Causal(
            n, slice_of_point=slices_of(n), epsilons=[0.05, 0.5, 2], threshold=0.8
        ),
        lambda n=NUM_POINTS: CausalLoop(slices_of(n), (0.05, 0.5, 2), 0.8),
        "mean_losses",
    ),
}


def slices_of(number):
    return [SLICES[i % len(SLICES)] for i in range(number)]


def step(layer, losses, index, **arguments):
    """What the layer gives for the losses of a batch's rows, in training."""
    pair = [ops.array(losses, "float32"), ops.array(index, "int32")]
    return array(layer(pair, training=True, **arguments))


def drawn_batches(steps=6, number=NUM_POINTS, seed=0):
    """Losses and points of batches of several sizes; some points are in one twice."""
    rng = np.random.default_rng(seed)
    for rows in np.resize([number, 5, 1, 4, number, 3], steps):
        yield rng.gamma(0.7, 1.5, rows), rng.integers(0, number, rows)
