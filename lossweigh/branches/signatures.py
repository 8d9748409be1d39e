"""What a loss is called on: the target, if there is one, and the tensors of `of`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from lossweigh.branches.masked_loss import MaskedLoss

# Arguments that a loss may have after its tensors.
_NO_TENSORS = ("valid", "weight", "training", "mask")


def check_tensors(what: str, branch: Any, number: int) -> None:
    """Refuses a loss that takes another number of tensors than it is called on.

    Args:
        what: The loss and its branch, for the message.
        branch: The branch.
        number: How many tensors the loss looks at, the target not counted.

    Raises:
        TypeError: If the numbers differ. An argument with a default is no tensor.
    """
    loss, function, target = branch.loss, branch.function, branch.target is not None
    is_layer = isinstance(loss, keras.layers.Layer)
    if is_layer:
        function = loss.call
    elif isinstance(loss, MaskedLoss):
        function = loss.values
    arguments = _arguments(function)
    if arguments is None:
        return
    names = branch.source_names
    if branch.branch is None and branch.of is None:  # in a model that was wired by hand
        names = [f"tensor_{index}" for index in range(number)]
    tensors = [*(["y_true"] if target else []), *names]
    if len(arguments) == len(tensors) or (
        is_layer and len(arguments) == len(tensors) + 1  # `valid` by another name
    ):
        return
    words = [
        name if name.isidentifier() else f"tensor_{number}"
        for number, name in enumerate(tensors)
    ]
    written = ", ".join([*words, "valid=None"] if is_layer else words)
    cure = f"Write `def {'call(self, ' if is_layer else 'my_loss('}{written})`"
    if len(arguments) == len(tensors) + (-1 if target else 1):
        other = "without a target: `TargetFree" if target else "with a target: `Branch"
        cure += f", or make it a branch {other}Loss(...)`"
    count = f"{len(tensors)} tensor{'s' if len(tensors) > 1 else ''}"
    raise TypeError(
        f"{what} is called on {count}, one argument each: "
        f"{'the target and ' if target else ''}the tensors of `of`, {names}. "
        f"Received a loss of ({', '.join(arguments)}). {cure}, or name other tensors "
        "in `of`."
    )


def build_loss(loss: Any, *shapes: Any) -> None:
    """Builds a loss that is a layer, if it has something to build.

    Args:
        loss: The loss.
        *shapes: The shapes of the tensors that it is called on.
    """
    if not isinstance(loss, keras.layers.Layer) or loss.built:
        return
    if type(loss).build is not keras.layers.Layer.build:
        loss.build(*shapes)


def _arguments(function: Callable[..., Any]) -> list[str] | None:
    """The names of the tensors that a function takes; `None` for any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return [
        one.name
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        and one.default is one.empty
        and one.name not in _NO_TENSORS
    ]
