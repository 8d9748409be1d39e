"""The one place that words argument errors.

Every message names the argument, what was expected, what came, and (where it
is not obvious) the cure. Functions return the checked value, so a constructor
reads `self.temperature = positive("temperature", temperature)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def number(name: str, value: Any) -> float:
    """A finite real number, as a float."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={value!r} "
            f"(of type {type(value).__name__})."
        ) from None
    if not math.isfinite(result):
        raise ValueError(f"`{name}` must be finite. Received: {name}={result}.")
    return result


def positive(name: str, value: Any) -> float:
    """A number greater than 0."""
    result = number(name, value)
    if result <= 0:
        raise ValueError(f"`{name}` must be greater than 0. Received: {name}={result}.")
    return result


def not_negative(name: str, value: Any) -> float:
    """A number of at least 0."""
    result = number(name, value)
    if result < 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {name}={result}.")
    return result


def between(name: str, value: Any, low: float, high: float) -> float:
    """A number with `low <= number <= high`."""
    result = number(name, value)
    if not low <= result <= high:
        raise ValueError(
            f"`{name}` must be between {low:g} and {high:g}. Received: {name}={result}."
        )
    return result


def whole(name: str, value: Any, at_least: int) -> int:
    """A whole number of at least `at_least`, as an int."""
    result = number(name, value)
    if result != int(result) or result < at_least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {at_least}. "
            f"Received: {name}={value!r}."
        )
    return int(result)


def positive_numbers(name: str, values: Any) -> list[float]:
    """A non-empty list of numbers greater than 0."""
    if isinstance(values, (Mapping, str)) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{name}` must be a list of numbers. Received: {name}={values!r}."
        )
    result = [positive(name, value) for value in values]
    if not result:
        raise ValueError(
            f"`{name}` must hold at least one number. Received an empty list."
        )
    return result


def bounds(low: Any, high: Any) -> tuple[float, float]:
    """A lower and an upper bound, in that order."""
    min_value, max_value = number("min_value", low), number("max_value", high)
    if min_value >= max_value:
        raise ValueError(
            "`min_value` must be less than `max_value`. "
            f"Received: min_value={min_value}, max_value={max_value}. "
            "Are the two the wrong way round?"
        )
    return min_value, max_value


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """One of a few allowed values."""
    allowed = list(allowed)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(
            f"`{name}` must be one of {choices}. Received: {name}={value!r}."
        )
    return value


def weights(name: str, values: Any, num_branches: int | None = None) -> list[float]:
    """A non-empty list of finite numbers >= 0 with a positive sum."""
    result = numbers(name, values, num_branches, at_least=0.0)
    if sum(result) <= 0:
        raise ValueError(
            f"`{name}` must hold at least one number greater than 0. "
            f"Received: {name}={result}."
        )
    return result


def numbers(
    name: str,
    values: Any,
    num_branches: int | None = None,
    *,
    at_least: float = -math.inf,
) -> list[float]:
    """A non-empty list of finite numbers."""
    try:
        if isinstance(values, (Mapping, str)):
            raise TypeError
        result = [float(value) for value in values]
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a list with one number a branch. "
            f"Received: {name}={values!r}."
        ) from None
    if not result or not all(math.isfinite(v) and v >= at_least for v in result):
        limit = f" of at least {at_least:g}" if math.isfinite(at_least) else ""
        raise ValueError(
            f"`{name}` must hold finite numbers{limit}, one a branch. "
            f"Received: {name}={result}."
        )
    if num_branches is not None and len(result) != num_branches:
        raise ValueError(
            f"`{name}` must hold one number for each of the {num_branches} "
            f"branches. Received {len(result)}: {name}={result}."
        )
    return result


def by_name(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The values of a dict, and of the dicts in it, by the name that an output has.

    Examples:
        >>> by_name({"a": 1, 2: {"b": 3}})
        {'a': 1, '2/b': 3}
    """
    named: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            named.update({f"{key}/{name}": v for name, v in by_name(value).items()})
        else:
            named[str(key)] = value
    return named


def per_branch(
    name: str, values: Any, check: Callable[[str, Any], list[float]]
) -> list[float] | dict[str, float] | None:
    """One number a branch in a list or in a dict by branch name; or `None`.

    Args:
        name: The argument's name.
        values: What was given.
        check: What checks the numbers, `weights` or `numbers`.
    """
    if values is None:
        return None
    if not isinstance(values, Mapping):
        return check(name, values)
    named = by_name(values)
    return dict(zip(named, check(name, list(named.values())), strict=True))


def in_order(name: str, values: Any, branches: list[str] | None) -> Any:
    """What a dict has by branch name in the branches' order; a list as it is."""
    if not isinstance(values, Mapping):
        return values
    names(name, values, with_names(name, values, branches))
    return [values[branch] for branch in branches or []]


def with_names(name: str, values: Any, branches: list[str] | None) -> list[str]:
    """The branches' names, which a dict by these needs."""
    if branches is None:
        raise ValueError(
            f"`{name}` given by branch name need branches with names, as "
            "`build_training_model` gives them. In a model that you wire by hand, give "
            f"a list in the order of the losses. Received: {name}={values}."
        )
    return branches


def names(argument: str, received: Iterable[str], expected: Iterable[str]) -> None:
    """Exactly the expected names: an unknown or a missing one is an error."""
    received, expected = list(received), list(expected)
    unknown = [name for name in received if name not in expected]
    missing = [name for name in expected if name not in received]
    if unknown or missing:
        problems = []
        if unknown:
            problems.append(f"unknown: {unknown}")
        if missing:
            problems.append(f"missing: {missing}")
        raise ValueError(
            f"`{argument}` must have the names {expected}. "
            f"Received the names {received} ({'; '.join(problems)})."
        )


def known_names(
    argument: str, received: Iterable[str], expected: Iterable[str], cure: str = ""
) -> None:
    """Some of the expected names and no other; `cure` is what the error ends with."""
    received, expected = list(received), list(expected)
    unknown = [name for name in received if name not in expected]
    if unknown:
        raise ValueError(
            f"`{argument}` may only have the names {expected}. "
            f"Received the names {received} (unknown: {unknown}).{cure}"
        )
