"""Names for derivatives, such as `u_tx`, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from lossweigh import _check
from lossweigh._types import Shape

Derivative: TypeAlias = tuple[int, ...]
"""The index of an output column, and of the variables it is differentiated by."""

_MOST_LISTED = 40


def name_columns(
    argument: str, given: Any, shapes: Mapping[str, Shape]
) -> dict[str, list[str]]:
    """Names for the columns of a network's inputs or outputs, by tensor.

    Args:
        argument: The argument's name.
        given: What was given for it: `None`, a list for the only tensor, or a dict of
            lists.
        shapes: The tensors' shapes by name.

    Returns:
        The names of each tensor that takes part.

    Raises:
        TypeError: If names aren't strings in a list.
        ValueError: If names are too few, too many or twice there, or none is given
            and no tensor has one column.
    """
    if given is None:
        named = {name: [name] for name, shape in shapes.items() if shape[-1] == 1}
        if not named:
            raise ValueError(
                f"`{argument}` must name the columns, as no tensor of the network has "
                f"one column. Received: {argument}=None, for tensors of the shapes "
                f"{dict(shapes)}. Give a list for the only tensor, as in "
                f'`{argument}=["t", "x"]`, or a dict of lists.'
            )
        return named
    if not isinstance(given, Mapping):
        if len(shapes) != 1:
            raise ValueError(
                f"`{argument}` must be a dict of lists of names for the tensors "
                f"{list(shapes)}, as there are several. Received: {argument}={given!r}."
            )
        given = dict.fromkeys(shapes, given)
    _check.known_names(argument, given, shapes)
    named = {name: _strings(argument, several) for name, several in given.items()}
    for name, several in named.items():
        if shapes[name][-1] != len(several):
            raise ValueError(
                f"`{argument}` must have a name for each column of {name!r}, which has "
                f"the shape {shapes[name]}. Received {len(several)}: {several}."
            )
    every = [name for several in named.values() for name in several]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice or not every:
        raise ValueError(
            f"`{argument}` must hold at least one name, and each name once. Received: "
            f"{argument}={given!r}" + (f" (twice: {twice})." if twice else ".")
        )
    return {name: named[name] for name in shapes if name in named}


def _strings(argument: str, names: Any) -> list[str]:
    """A list of names that aren't empty."""
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or not all(isinstance(name, str) and name for name in names):
        raise TypeError(
            f'`{argument}` must be a list of names, as in ["u", "v"]. '
            f"Received: {argument}={names!r}."
        )
    return list(names)


class DerivativeNames:
    """All derivatives of first and second order by name, and the outputs themselves.

    Args:
        outputs: The names of the output columns.
        variables: Those of the input columns.

    Attributes:
        known: What each name stands for.

    Raises:
        ValueError: If two have one name.
    """

    def __init__(self, outputs: Sequence[str], variables: Sequence[str]) -> None:
        self.outputs, self.variables = list(outputs), list(variables)
        between = "" if all(len(name) == 1 for name in variables) else "_"
        self.known: dict[str, Derivative] = {}
        for index, output in enumerate(outputs):
            self._add(output, (index,))
            for i, one in enumerate(variables):
                self._add(f"{output}_{one}", (index, i))
            for i, one in enumerate(variables):
                for j, other in enumerate(variables):
                    self._add(f"{output}_{one}{between}{other}", (index, i, j))

    def _add(self, name: str, derivative: Derivative) -> None:
        if name in self.known:
            raise ValueError(
                f"`outputs` and `variables` must have names that tell their "
                f"derivatives apart. Received: outputs={self.outputs}, "
                f"variables={self.variables}, where {name!r} may mean two things."
            )
        self.known[name] = derivative

    def look_up(self, names: Any) -> dict[str, Derivative]:
        """What some names stand for.

        `u_xt` is the same as `u_tx`. The one is taken whose first derivative is
        differentiated again anyway.

        Raises:
            TypeError: If the names aren't strings in a list.
            ValueError: If there is none, or one is unknown.
        """
        names = _strings("names", names)
        unknown = [name for name in names if name not in self.known]
        if unknown or not names:
            raise ValueError(
                f"`names` must be some of {self._listed()}. Received: names={names}"
                + (f" (unknown: {unknown})." if unknown else ".")
            )
        wanted = {name: self.known[name] for name in names}
        again = {two[:2] for two in wanted.values() if two[1:2] == two[2:]}
        for name, derivative in wanted.items():
            if len(derivative) == 3:
                output, one, other = derivative
                if (output, one) not in again and (output, other) in again:
                    wanted[name] = (output, other, one)
                again.add(wanted[name][:2])
        return wanted

    def _listed(self) -> str:
        if len(self.known) <= _MOST_LISTED:
            return str(list(self.known))
        first, second = list(self.known)[1 :: len(self.variables)][:2]
        return (
            f"the outputs {self.outputs} and their derivatives of first and second "
            f"order by {self.variables}, as in {first!r} and {second!r}"
        )


def orders(
    wanted: Iterable[Derivative],
) -> tuple[dict[int, list[int]], dict[tuple[int, int], list[int]]]:
    """What to differentiate by what, once and twice.

    Returns:
        For each output the variables, and for each output and variable the variables
        of a second derivative.
    """
    firsts: dict[int, list[int]] = {}
    seconds: dict[tuple[int, int], list[int]] = {}
    for output, *variables in sorted(set(wanted)):
        if variables and variables[0] not in firsts.setdefault(output, []):
            firsts[output].append(variables[0])
        if len(variables) == 2:
            seconds.setdefault((output, variables[0]), []).append(variables[1])
    return firsts, seconds
