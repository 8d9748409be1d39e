"""The inputs of a prediction model by name, from the structure that a user gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lossweigh import _check


class InputNames:
    """Gives each array in `x` the name of its input.

    Args:
        structure: The prediction model's input structure, names at its leaves.
        optional: The names of inputs that may be left out.
        expected: What an error says that `x` must hold.
    """

    def __init__(self, structure: Any, optional: frozenset[str], expected: str) -> None:
        self.structure, self.optional = structure, optional
        self.expected = expected

    def name(self, x: Any) -> dict[str, Any]:
        """The arrays by name.

        Args:
            x: Of the structure; or a dict by name where that is a list, an array where
                it is one name.

        Raises:
            ValueError: If `x` has another structure or other names.
        """
        return self._name(self.structure, x)

    def _name(self, structure: Any, x: Any) -> dict[str, Any]:
        if isinstance(structure, str):
            return {structure: self._only(structure, x)}
        if isinstance(structure, Mapping):
            if isinstance(x, Mapping):
                pass
            elif len(structure) == 1 and not isinstance(x, (list, tuple)):
                x = {next(iter(structure)): x}
            else:
                raise ValueError(
                    f"`x` must be a dict with the names {list(structure)}. "
                    f"Received: {describe(x)}."
                )
            x = self._needed(x, structure)
            pairs = [(inner, x[name]) for name, inner in structure.items()]
        else:
            if isinstance(x, Mapping) and all(isinstance(s, str) for s in structure):
                x = list(self._needed(x, structure).values())
            x = x if isinstance(x, (list, tuple)) else [x]
            if len(x) != len(structure):
                self._refuse_number(len(x))
            pairs = list(zip(structure, x, strict=True))
        named: dict[str, Any] = {}
        for inner, part in pairs:
            named.update(self._name(inner, part))
        return named

    def _only(self, name: str, x: Any) -> Any:
        """The array of one input."""
        if isinstance(x, Mapping):
            return self._needed(x, [name])[name]
        if isinstance(x, (list, tuple)) and len(x) == 1:
            return x[0]
        if isinstance(x, (list, tuple)) and x and hasattr(x[0], "shape"):
            self._refuse_number(len(x))
        return x

    def _needed(self, x: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """The inputs, of a dict that may have others; `None` for one left out."""
        names = list(names)
        optional = [name for name in names if name in self.optional and name not in x]
        missing = [name for name in names if name not in x and name not in optional]
        unknown = [name for name in x if name not in names]
        if missing or (optional and unknown):
            _check.names("x", x, [name for name in names if name not in optional])
        return {name: x.get(name) for name in names}

    def _refuse_number(self, received: int) -> None:
        raise ValueError(
            f"`x` must hold {self.expected}. Received {received} arrays in `x`."
        )


def describe(x: Any) -> str:
    """What `x` is, for a message."""
    if hasattr(x, "shape"):
        return f"an array of shape {tuple(x.shape)}"
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} of {len(x)}"
    return f"a {type(x).__name__}"
