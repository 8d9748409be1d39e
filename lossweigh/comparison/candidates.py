"""What is compared: methods, each with the settings that are tried for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lossweigh import _check
from lossweigh.balancing.base import Balancer
from lossweigh.balancing.cagrad import CAGrad
from lossweigh.balancing.levels import Parameters
from lossweigh.balancing.up_grad import UPGrad
from lossweigh.comparison.sameness import class_code, described, hashed
from lossweigh.comparison.searches import Grid, RandomSearch, Search
from lossweigh.weighting.base import Weighter
from lossweigh.weighting.fixed_weights import FixedWeights
from lossweigh.weighting.revised_uncertainty import RevisedUncertainty
from lossweigh.weighting.uncertainty import Uncertainty

EQUAL = "equal"  # the name of the candidate that all others are compared with


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A weighter or a balancer as its class and arguments.

    Each run makes a new one. A class and a dict also travel to other processes, which
    a Keras layer doesn't.
    """

    kind: Any
    config: dict[str, Any]

    def make(self) -> Any:
        return self.kind.from_config(dict(self.config))

    def describe(self) -> dict[str, Any]:
        about = {"class": self.kind.__name__, "config": described(self.config)}
        code = class_code(self.kind)
        return about if code is None else {**about, "code": hashed(code)}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One line of the comparison.

    Attributes:
        name: Its name in the table.
        weighter: `None` for the default of `build_training_model`.
        balancer: `None` for none.
        searched: The fixed weights to choose from, by branch; `None` if the candidate
            isn't a search.
    """

    name: str
    weighter: Recipe | None = None
    balancer: Recipe | None = None
    searched: tuple[dict[str, float], ...] | None = None

    def make(
        self, weights: dict[str, float] | None
    ) -> tuple[Weighter | None, Balancer | None]:
        """A new weighter and a new balancer.

        Args:
            weights: One of `searched`, if there are some.
        """
        if weights is not None:
            return FixedWeights(weights), None
        weighter = None if self.weighter is None else self.weighter.make()
        return weighter, None if self.balancer is None else self.balancer.make()

    def describe(self) -> dict[str, Any]:
        """What tells this candidate from another of the same name."""
        parts = {"weighter": self.weighter, "balancer": self.balancer}
        described: dict[str, Any] = {
            key: recipe.describe() for key, recipe in parts.items() if recipe
        }
        if self.searched is not None:
            described["weights"] = list(self.searched)
        return described


def candidates_by_name(given: Any, branches: Sequence[str]) -> dict[str, Candidate]:
    """The argument `candidates`, checked, with equal weights in front.

    Args:
        given: What `compare` was given.
        branches: The names of the branches.

    Raises:
        TypeError: If it isn't a dict, or a candidate is of an unknown kind.
        ValueError: If it is empty, or a name or weights can't be used.
    """
    if given is None:
        given = default_candidates(len(branches))
    if not isinstance(given, Mapping):
        raise TypeError(
            "`candidates` must be a dict from a name to a weighter, a balancer, a pair "
            "(weighter, balancer), or fixed weights to search, such as "
            "{'uncertainty': RevisedUncertainty(), 'fixed': Grid()}. Received: "
            f"candidates={given!r}."
        )
    if not given:
        raise ValueError(
            "`candidates` must have at least one candidate. Received an empty dict. "
            "Leave the argument out for a small set of usual ones."
        )
    candidates = {EQUAL: Candidate(EQUAL, weighter=recipe(FixedWeights()))}
    for name, value in given.items():
        if not isinstance(name, str) or not name.strip():
            raise TypeError(
                "`candidates` must have names that are strings and not empty. "
                f"Received the name {name!r}."
            )
        candidate = _as_candidate(name, value, branches)
        if name == EQUAL and candidate != candidates[EQUAL]:
            raise ValueError(
                f"`candidates` may use the name {EQUAL!r} only for `FixedWeights()`, "
                "with which all others are compared. Choose another name for "
                f"{value!r}."
            )
        candidates[name] = candidate
    return candidates


def default_candidates(num_branches: int) -> dict[str, Any]:
    """A few methods that did well in lossweigh's benchmarks, and fixed weights."""
    few = num_branches <= 2
    return {
        "fixed weights": Grid() if few else RandomSearch(6),
        "RevisedUncertainty": RevisedUncertainty(),
        "Uncertainty": Uncertainty(),
        "CAGrad, calibrated": CAGrad(level="calibrated"),
        "UPGrad, every 10": UPGrad(level=Parameters(update_every=10)),
    }


def recipe(thing: Weighter | Balancer) -> Recipe:
    """The class and the arguments, without what a model or Keras filled in."""
    config = {**thing.get_config(), "branches": None}
    if isinstance(thing, Weighter):
        config["inferred_task_types"] = None
        del config["name"]
    return Recipe(type(thing), config)


def _as_candidate(name: str, value: Any, branches: Sequence[str]) -> Candidate:
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, (Weighter, Balancer)):
            _check_per_branch(name, one, branches)
    if isinstance(value, Weighter):
        return Candidate(name, weighter=recipe(value))
    if isinstance(value, Balancer):
        return Candidate(name, balancer=recipe(value))
    if isinstance(value, Search):
        return Candidate(name, searched=tuple(value.weights(branches)))
    if (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], Weighter)
        and isinstance(value[1], Balancer)
    ):
        return Candidate(name, recipe(value[0]), recipe(value[1]))
    if isinstance(value, list):
        return Candidate(name, searched=tuple(_listed(name, value, branches)))
    hint = f" Write `{value.__name__}()`." if isinstance(value, type) else ""
    raise TypeError(
        f"The candidate {name!r} must be a weighter, a balancer, a pair "
        "(weighter, balancer), `Grid()`, `RandomSearch()`, or a list of fixed "
        f"weights, each a dict by branch. Received: {value!r}.{hint}"
    )


def _check_per_branch(
    candidate: str, thing: Weighter | Balancer, branches: Sequence[str]
) -> None:
    """Refuses arguments with an entry a branch that are for other branches."""
    for name in thing.per_branch:
        values = getattr(thing, name)
        argument = name.removesuffix("_given")
        if isinstance(values, Mapping):
            may_lack_some = name == "task_types"  # the losses say the others
            check = _check.known_names if may_lack_some else _check.names
            check(f"{argument} of the candidate {candidate!r}", values, branches)
        elif values is not None and len(values) != len(branches):
            raise ValueError(
                f"`{argument}` of the candidate {candidate!r} must have one entry for "
                f"each of the {len(branches)} branches {list(branches)}. Received "
                f"{len(values)}: {values}."
            )


def _listed(
    name: str, value: list[Any], branches: Sequence[str]
) -> list[dict[str, float]]:
    """A list of fixed weights, each a dict by branch."""
    if not value:
        raise ValueError(
            f"The candidate {name!r} must have at least one set of fixed weights. "
            "Received an empty list."
        )
    searched = []
    for weights in value:
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"The candidate {name!r} must be a list of dicts with a weight for "
                f"each of the branches {list(branches)}. Received: {weights!r} in it."
            )
        by_name = _check.by_name(weights)
        _check.names(f"candidates[{name!r}]", by_name, branches)
        in_order = [by_name[branch] for branch in branches]
        numbers = _check.weights(f"candidates[{name!r}]", in_order)
        searched.append(dict(zip(branches, numbers, strict=True)))
    return searched
