"""How `fit`'s `class_weight` is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossweigh.branches import check_class_weight


def class_weights(
    class_weight: Any, branches: Sequence[str]
) -> dict[str, dict[int, float]]:
    """`fit`'s `class_weight` by branch name, checked.

    Args:
        class_weight: A dict by branch name, or for one branch the class weights
            themselves, or `None`.
        branches: The branches' names.
    """
    if class_weight is None:
        class_weight = {}
    elif not isinstance(class_weight, Mapping):
        raise TypeError(
            "`class_weight` must be a dict by branch name, as in "
            f"{{{branches[0]!r}: {{0: 1.0, 1: 5.0}}}}. "
            f"Received: class_weight={class_weight!r}."
        )
    elif class_weight and not any(
        isinstance(value, Mapping) for value in class_weight.values()
    ):
        if len(branches) > 1:
            raise ValueError(
                "`class_weight` must be a dict by branch name, as in "
                f"{{{branches[0]!r}: {{0: 1.0, 1: 5.0}}}}. "
                f"Received: class_weight={class_weight!r}."
            )
        class_weight = {branches[0]: class_weight}
    unknown = [name for name in class_weight if name not in branches]
    if unknown:
        raise KeyError(
            f"`class_weight` may only have the names {branches}. "
            f"Received the names {list(class_weight)} (unknown: {unknown})."
        )
    return {
        branch: check_class_weight(f"class_weight[{branch!r}]", some) or {}
        for branch, some in class_weight.items()
    }
