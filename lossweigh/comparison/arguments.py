"""The smaller arguments of `compare`, checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import keras

from lossweigh import _check
from lossweigh.comparison.candidates import Recipe
from lossweigh.comparison.runs import Protocol
from lossweigh.comparison.sameness import described, hashed

ANY_RATE = 1e-3  # at which two functions that return optimizers are told apart


def whole(name: str, value: Any, at_least: int = 1) -> int:
    """A whole number, and no text of one.

    Args:
        name: The argument's name.
        value: What was given.
        at_least: The least that it may be.
    """
    if isinstance(value, str):
        raise TypeError(
            f"`{name}` must be a whole number of at least {at_least}. "
            f"Received: {name}={value!r}."
        )
    return _check.whole(name, value, at_least)


def as_seeds(seeds: Any) -> list[int]:
    """The seeds of a list, or those from 0 on."""
    if not isinstance(seeds, (list, tuple, range)):
        return list(range(whole("seeds", seeds)))
    result = [whole("seeds", seed, at_least=0) for seed in seeds]
    if not result or len(set(result)) < len(result):
        raise ValueError(
            "`seeds` must be a number of seeds, or a list of different ones. "
            f"Received: seeds={seeds!r}."
        )
    return result


def as_learning_rates(learning_rates: Any) -> list[float]:
    """Different numbers greater than 0."""
    rates = _check.positive_numbers("learning_rates", learning_rates)
    if len(set(rates)) < len(rates):
        raise ValueError(
            "`learning_rates` must be different numbers. Received: "
            f"learning_rates={learning_rates!r}."
        )
    return rates


def as_n_jobs(n_jobs: Any) -> int | None:
    """A number of runs at a time, as joblib takes it: -1 for one a core."""
    if n_jobs is None:
        return None
    words = (
        "`n_jobs` must be how many runs there are at a time, -1 for one a core, or "
        f"None. Received: n_jobs={n_jobs!r}."
    )
    if isinstance(n_jobs, (str, bytes)) or not hasattr(n_jobs, "__int__"):
        raise TypeError(words)
    if n_jobs == 0 or int(n_jobs) != n_jobs:
        raise ValueError(words)
    return int(n_jobs)


def as_optimizer(optimizer: Any) -> Recipe | Callable[[float], Any]:
    """An optimizer's class and arguments, or the function that returns one."""
    if isinstance(optimizer, str):
        try:
            optimizer = keras.optimizers.get(optimizer)
        except ValueError:
            raise ValueError(
                "`optimizer` must be the name of an optimizer that Keras knows, such "
                f"as 'adam', or one itself. Received: optimizer={optimizer!r}."
            ) from None
    if isinstance(optimizer, keras.optimizers.Optimizer):
        config = optimizer.get_config()
        if isinstance(config["learning_rate"], Mapping):
            raise ValueError(
                "`optimizer` with a schedule of learning rates must be a function from "
                "a learning rate to a new optimizer, such as `lambda rate: "
                "Adam(CosineDecay(rate, steps))`. Received: an optimizer that has one."
            )
        return Recipe(type(optimizer), config)
    if callable(optimizer):
        return optimizer
    raise TypeError(
        "`optimizer` must be a name, a Keras optimizer, or a function from a learning "
        f"rate to one. Received: optimizer={optimizer!r}."
    )


def described_optimizer(protocol: Protocol) -> str:
    """What tells the optimizer from another; a function by what it returns, too.

    Args:
        protocol: Has the optimizer.
    """
    optimizer, name = protocol.optimizer, optimizer_name(protocol)
    if isinstance(optimizer, Recipe):
        left_out = ("name", "learning_rate")
        config = {k: v for k, v in optimizer.config.items() if k not in left_out}
        return f"{name} {json.dumps(config, default=repr)}"
    code = hashed([described(protocol.optimizer_for(ANY_RATE)), described(optimizer)])
    return f"{name} {code}"


def optimizer_name(protocol: Protocol) -> str:
    """The name of the optimizer's class, or of the function that returns it."""
    optimizer = protocol.optimizer
    if isinstance(optimizer, Recipe):
        return str(optimizer.kind.__name__)
    return str(getattr(optimizer, "__qualname__", type(optimizer).__name__))
