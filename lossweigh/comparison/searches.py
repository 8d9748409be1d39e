"""Fixed weights to choose from: a grid, or random ones."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence

import numpy as np

from lossweigh import _check


class Search(abc.ABC):
    """Fixed weights for branches that aren't known yet. Abstract."""

    @abc.abstractmethod
    def weights(self, branches: Sequence[str]) -> list[dict[str, float]]:
        """The weights to try, each a dict by branch name, with the mean 1.

        Args:
            branches: The names of the branches.
        """


class Grid(Search):
    """Fixed weights in all combinations of a few values.

    Two combinations with the same ratios are one. The weights of each are scaled to the
    mean 1, so that a learning rate means the same for all of them. With two branches
    and three values there are 5, with three branches 19: for more branches
    `RandomSearch` takes fewer runs.

    Args:
        values: The numbers greater than 0 that each branch's weight can have.

    Raises:
        ValueError: If there are none, or one isn't greater than 0.

    Examples:
        >>> for weights in Grid([1.0, 3.0]).weights(["box", "label"]):
        ...     print(weights)
        {'box': 1.0, 'label': 1.0}
        {'box': 0.5, 'label': 1.5}
        {'box': 1.5, 'label': 0.5}
    """

    def __init__(self, values: Sequence[float] = (0.1, 1.0, 10.0)) -> None:
        self.values = _check.positive_numbers("values", values)

    def weights(self, branches: Sequence[str]) -> list[dict[str, float]]:
        scaled: dict[tuple[float, ...], dict[str, float]] = {}
        for numbers in itertools.product(self.values, repeat=len(branches)):
            weights = _with_mean_1(branches, numbers)
            ratios = tuple(round(weight, 9) for weight in weights.values())
            scaled.setdefault(ratios, weights)
        return list(scaled.values())

    def __repr__(self) -> str:
        return f"Grid({self.values})"


class RandomSearch(Search):
    """Fixed weights at random: their logarithms are uniform.

    Each set is scaled to the mean 1, as those of `Grid` are.

    Args:
        number: Int of at least 1: how many sets of weights to try.
        low: Float greater than 0, the least weight before scaling.
        high: Float greater than `low`, the largest.
        seed: Int of at least 0: the same seed gives the same weights.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> tried = RandomSearch(2).weights(["box", "label"])
        >>> [round(sum(weights.values()), 6) for weights in tried]
        [2.0, 2.0]
    """

    def __init__(
        self, number: int, *, low: float = 0.1, high: float = 10.0, seed: int = 0
    ) -> None:
        self.number = _check.whole("number", number, at_least=1)
        self.low, self.high = _check.positive("low", low), _check.positive("high", high)
        self.seed = _check.whole("seed", seed, at_least=0)
        if self.low >= self.high:
            raise ValueError(
                f"`low` must be less than `high`. Received: low={low}, high={high}."
            )

    def weights(self, branches: Sequence[str]) -> list[dict[str, float]]:
        random = np.random.default_rng(self.seed)
        size = (self.number, len(branches))
        drawn = np.exp(random.uniform(np.log(self.low), np.log(self.high), size))
        return [_with_mean_1(branches, numbers.tolist()) for numbers in drawn]

    def __repr__(self) -> str:
        return (
            f"RandomSearch({self.number}, low={self.low}, high={self.high}, "
            f"seed={self.seed})"
        )


def _with_mean_1(branches: Sequence[str], numbers: Sequence[float]) -> dict[str, float]:
    mean = sum(numbers) / len(numbers)
    return {b: number / mean for b, number in zip(branches, numbers, strict=True)}
