"""On JAX: one compiled step that makes a balancer's exact pass, and one without.

Of the two sides of a `cond` XLA compiles what processors run several times slower than
the rest of a step. But a step is compiled for each structure of its arguments: so each
batch is wrapped in what says whether its step is to make an exact pass, by a count that
is kept outside of what is compiled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from lossweigh.balancing.base import Balancer


class _Refresh(NamedTuple):
    """A batch whose step makes an exact pass."""

    batch: Any


class _Keep(NamedTuple):
    """A batch whose step makes none."""

    batch: Any


@contextlib.contextmanager
def unwrapped(balancer: Balancer | None, data: Any) -> Iterator[Any]:
    """The batch, and for the time being a balancer that knows what its step does."""
    if balancer is None:
        yield data
        return
    balancer.in_own_step = True
    told = isinstance(data, (_Refresh, _Keep))
    if told:
        balancer.refreshes = isinstance(data, _Refresh)
    try:
        yield data.batch if told else data
    finally:
        balancer.in_own_step = False
        balancer.refreshes = None


def two_programs(model: Any, train_function: Callable[..., Any]) -> Callable[..., Any]:
    """A `train_function` of JAX that tells each step what it is to do.

    The function as it is, where there is nothing to tell: on other backends, without
    a balancer that makes an exact pass in some of its steps, where its state isn't
    trained, and under loss scaling, whose optimizer may skip a step and only itself
    knows which.
    """
    balancer = model.balancer
    if (
        keras.backend.backend() != "jax"
        or balancer is None
        or balancer.update_every == 1
        or isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    ):
        return train_function
    trained = [id(variable) for variable in model.trainable_variables]
    if id(balancer.state) not in trained:
        return train_function
    return _Counting(
        train_function,
        trained.index(id(balancer.state)),
        len(trained),
        balancer.update_every,
    )


class _Counting:
    """Counts the steps since the last exact pass.

    The count begins with the age in the balancer's state, and again whenever that is
    another array than the last step left there: after a callback, a new epoch, the
    loading of weights. To look at it in each step would be to wait for each step.
    """

    def __init__(
        self, function: Callable[..., Any], place: int, number: int, every: int
    ) -> None:
        self.function, self.every = function, every
        self.place, self.number = place, number  # among the trainable variables
        self.state: Any = None
        self.age = 0

    def __call__(self, state: Any, iterator: Iterator[Any]) -> Any:
        if len(state[0]) != self.number:  # Keras has something to say about that
            return self.function(state, iterator)
        found = state[0][self.place]
        if found is not self.state:
            self.age = int(np.asarray(found)[-1])
        self.state = None  # a step that fails leaves the count wrong
        logs, state = self.function(state, self._wrapped(iterator))
        self.state = state[0][self.place]
        return logs, state

    def _wrapped(self, iterator: Iterator[Any]) -> Iterator[Any]:
        for batch in iterator:
            refreshes = self.age == 0
            self.age = self.age + 1 if self.age + 1 < self.every else 0
            yield _Refresh(batch) if refreshes else _Keep(batch)
