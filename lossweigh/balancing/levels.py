"""Where a balancer takes the branches' gradients, and how often it finds weights."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras

from lossweigh import _check


class Level(abc.ABC):
    """Where the gradients of the branches are taken.

    Abstract: use `Representation`, `Calibrated` or `Parameters`. Two levels of the same
    class and arguments are equal.
    """

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        """What the level keeps from step to step: float32 arrays by name."""
        return {}

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A level of these arguments."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self.get_config() == other.get_config())

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        given = self.get_config()
        shown = [f"{k}={value!r}" for k, value in given.items() if value is not None]
        return f"{type(self).__name__}({', '.join(shown)})"


@keras.saving.register_keras_serializable(package="lossweigh")
class Representation(Level):
    """At the tensors where the branches leave the shared layers.

    It takes one ordinary backward pass, and balances an upper bound of the gradients
    that the papers balance (Sener & Koltun 2018).

    Args:
        layers: The name of a shared layer, or a list of names, at whose outputs to
            balance. Default: wherever a branch leaves the shared layers.

    Raises:
        TypeError: If `layers` is something else.

    Examples:
        >>> Representation(layers="neck")
        Representation(layers=['neck'])
    """

    def __init__(self, layers: str | Sequence[str] | None = None) -> None:
        names = [layers] if isinstance(layers, str) else layers
        if names is not None and not (
            isinstance(names, (list, tuple, set, frozenset))
            and names
            and all(isinstance(name, str) for name in names)
        ):
            raise TypeError(
                "`layers` must be the name of a layer or a list of such names; leave "
                "it out to balance wherever the branches part. Received: "
                f"layers={layers!r}."
            )
        self.layers = None if names is None else list(names)

    def get_config(self) -> dict[str, Any]:
        return {"layers": self.layers}


class ExactLevel(Level):
    """A level that looks at the shared parameters, in one step of so many.

    Abstract: `Parameters` and `Calibrated`.

    Args:
        update_every: Int of at least 1: the steps from one exact pass to the next.

    Raises:
        TypeError: If `update_every` isn't a whole number.
        ValueError: If it is less than 1.
    """

    def __init__(self, update_every: int) -> None:
        self.update_every = _check.whole("update_every", update_every, at_least=1)

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        """`age`, `()`: the steps since the last exact pass; 0 asks for one."""
        return {"age": 0.0}

    def get_config(self) -> dict[str, Any]:
        return {"update_every": self.update_every}


@keras.saving.register_keras_serializable(package="lossweigh")
class Parameters(ExactLevel):
    """At the shared trainable parameters, as in the papers.

    It takes K backward passes through the shared layers, each through the calls that
    its branch depends on. Where each branch calls these layers on an input of its own,
    all of them together are one.

    Args:
        update_every: Int. One step of so many computes the weights; the others keep
            them, and take one backward pass.

    Examples:
        >>> Parameters(update_every=10)
        Parameters(update_every=10)
    """

    def __init__(self, update_every: int = 1) -> None:
        super().__init__(update_every)


@keras.saving.register_keras_serializable(package="lossweigh")
class Calibrated(ExactLevel):
    """At the representation, with the lengths that gradients have at the parameters.

    Each branch's gradient at the representation is multiplied by the ratio of its norm
    at the shared parameters to its norm at the representation.

    Args:
        update_every: Int. One step of so many measures the ratios, by an exact pass;
            every step computes the weights.

    Examples:
        >>> Calibrated()
        Calibrated(update_every=25)
    """

    def __init__(self, update_every: int = 25) -> None:
        super().__init__(update_every)

    def initial_state(self, num_branches: int) -> dict[str, Any]:
        """Also `ratios`, `(K,)`: norm at the parameters / at the representation."""
        return {**super().initial_state(num_branches), "ratios": [1.0] * num_branches}


_BY_NAME: dict[str, type[Level]] = {
    "representation": Representation,
    "calibrated": Calibrated,
    "parameters": Parameters,
}


def get(level: Any) -> Level:
    """The level itself, or the level of a name with its defaults.

    Raises:
        ValueError: If no level has this name.
        TypeError: If it is something else, such as a class.
    """
    if isinstance(level, Level):
        return level
    if isinstance(level, str):
        return _BY_NAME[_check.one_of("level", level, list(_BY_NAME))]()
    raise TypeError(
        "`level` must be a level, such as `Parameters(update_every=10)`, or one of "
        f"{list(_BY_NAME)}. Received: level={level!r}."
    )
