"""How `fit`'s `class_weight` is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossweigh import _check
from lossweigh.branches import check_class_weight


def class_weights(
    class_weight: Any, targets: Mapping[str, str | None]
) -> dict[str, dict[int, float]]:
    """`fit`'s `class_weight` by branch name, checked.

    Args:
        class_weight: A dict by the name of a branch, or of a target for all its
            branches; or for one target the class weights themselves; or `None`.
        targets: The name of each branch's target, `None` if it has none.
    """
    names = list(dict.fromkeys(name for name in targets.values() if name is not None))
    if class_weight is None:
        class_weight = {}
    elif not isinstance(class_weight, Mapping):
        raise TypeError(_by_name(class_weight, names))
    elif class_weight and not any(
        isinstance(value, Mapping) or name in names
        for name, value in class_weight.items()
    ):
        if len(names) != 1:
            raise ValueError(_by_name(class_weight, names))
        class_weight = {names[0]: class_weight}
    known = [branch for branch, target in targets.items() if target is not None]
    known += [name for name in names if name not in known]
    class_weight = _named(class_weight, known)
    _check.known_names("class_weight", class_weight, known)
    checked = {
        name: check_class_weight(f"class_weight[{name!r}]", some) or {}
        for name, some in class_weight.items()
    }
    return {
        branch: checked[branch] if branch in checked else checked[target]
        for branch, target in targets.items()
        if target is not None and (branch in checked or target in checked)
    }


def _named(class_weight: Mapping[Any, Any], known: Sequence[str]) -> dict[str, Any]:
    """Class weights by a name that is known, or by what isn't one.

    Those of a name are a dict too, so that the names tell where a dict in a dict ends.
    """
    named: dict[str, Any] = {}
    for key, some in class_weight.items():
        name = str(key)
        inner = some.values() if isinstance(some, Mapping) else ()
        if name not in known and any(isinstance(value, Mapping) for value in inner):
            within = [n.removeprefix(f"{name}/") for n in known if f"{name}/" in n]
            nested = _named(some, within)
            named.update({f"{name}/{n}": value for n, value in nested.items()})
        else:
            named[name] = some
    return named


def _by_name(class_weight: Any, names: Sequence[str]) -> str:
    first = names[0] if names else "label"
    return (
        "`class_weight` must be a dict by branch name, as in "
        f"{{{first!r}: {{0: 1.0, 1: 5.0}}}}. Received: class_weight={class_weight!r}."
    )
