"""On JAX: one compiled step that makes a balancer's exact pass, and one without.

On CPU, XLA runs the body of a `cond` slowly, convolutions above all: a step of two
convolutions took 248 ms with a `cond`, and 7 ms with two compiled steps. JAX compiles a
step for each structure of its arguments. So the class that wraps a batch says whether
its step makes an exact pass. A count outside of the compiled step chooses the class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from lossweigh import _backend, _compat
from lossweigh.balancing.levels import ExactLevel
from lossweigh.gradients.balanced import BalancedModel


class ExactBatch(NamedTuple):
    """A batch whose step makes an exact pass."""

    batch: Any


class CheapBatch(NamedTuple):
    """A batch whose step makes none."""

    batch: Any


@contextlib.contextmanager
def with_exact_flag(balanced: BalancedModel | None, data: Any) -> Iterator[Any]:
    """The batch; meanwhile a balanced model knows what its step is to do."""
    if balanced is None:
        yield data
        return
    balanced.in_model_step = True
    told = isinstance(data, (ExactBatch, CheapBatch))
    balanced.exact = isinstance(data, ExactBatch) if told else None
    try:
        yield data.batch if told else data
    finally:
        balanced.in_model_step = False
        balanced.exact = None


def compile_exact_and_cheap_steps(
    model: Any, balanced: BalancedModel | None, train_function: Callable[..., Any]
) -> Callable[..., Any]:
    """A `train_function` of JAX that tells each step what it is to do.

    It returns the function unchanged on other backends, without a balancer that makes
    an exact pass in some of its steps, if its state isn't trained, and under loss
    scaling: that optimizer may skip a step and doesn't say which.
    """
    if balanced is None or not _backend.STATELESS:
        return train_function
    level = balanced.balancer.level
    if (
        not isinstance(level, ExactLevel)
        or level.update_every == 1
        or isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    ):
        return train_function
    trained = [id(variable) for variable in model.trainable_variables]
    age = id(balanced.state.level["age"])
    if age not in trained:
        return train_function
    counter = ExactStepCounter(trained.index(age), len(trained), level.update_every)
    return _compat.watched_steps(train_function, counter.flagged, counter.remember)


class ExactStepCounter:
    """Counts the steps since the last exact pass.

    The count begins with the age in the balancer's state, and again whenever that is
    another array than the last step left there: after a callback, a new epoch, the
    loading of weights. Reading the age in each step would wait for each step.

    Args:
        index: Which of the trainable variables is the age.
        number: How many trainable variables there are.
        update_every: The steps from one exact pass to the next.
    """

    def __init__(self, index: int, number: int, update_every: int) -> None:
        self.index, self.number, self.update_every = index, number, update_every
        self.last_age: Any = None
        self.count = 0

    def flagged(self, values: Sequence[Any], batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, each in the class that says what its step does.

        Args:
            values: Of the trainable variables, before the step.
            batches: What `fit` iterates over.
        """
        if len(values) != self.number:  # Keras raises an error
            return batches
        if values[self.index] is not self.last_age:
            self.count = int(np.asarray(values[self.index]))
        self.last_age = None  # a step that fails leaves the count wrong
        return self._wrapped(batches)

    def remember(self, values: Sequence[Any]) -> None:
        """Keeps the age that a step left."""
        if len(values) == self.number:
            self.last_age = values[self.index]

    def _wrapped(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            exact = self.count == 0
            self.count = self.count + 1 if self.count + 1 < self.update_every else 0
            yield ExactBatch(batch) if exact else CheapBatch(batch)
