"""The trainable variables that more than one branch depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lossweigh._structure import output_positions
from lossweigh.gradients.sharing import read_branches, used_by_several
from lossweigh.gradients.tracing import functional


def shared_variables(
    model: keras.Model, outputs: Mapping[str, Sequence[str]]
) -> dict[str, list[Any]]:
    """The trainable variables that several branches share, by layer, in model order.

    Args:
        model: The prediction model.
        outputs: For each branch the names of the outputs that its loss looks at.

    Returns:
        A dict from the path of a layer, such as `"backbone/conv_1"`, to its variables.

    Raises:
        ValueError: If the model doesn't show its layers, or nothing is shared.
    """
    position = output_positions(model)
    indices = [[position[name] for name in names] for names in outputs.values()]
    graph, _ = read_branches(functional(model), indices)
    ids = used_by_several(graph.calls)
    if len(outputs) == 1:
        ids = {weight for call in graph.calls for weight in call.weights}
    by_layer: dict[str, list[Any]] = {}
    for variable in model.variables:
        if id(variable) in ids:
            layer = variable.path.rpartition("/")[0] or variable.path
            by_layer.setdefault(layer, []).append(variable)
    if not by_layer:
        raise ValueError(
            f"The branches {list(outputs)} must share trainable layers, where their "
            f"gradients are compared. In the model {model.name!r} each branch has "
            "layers that only it uses, or what they share is frozen. Set `trainable = "
            "True` of a shared layer. (Branches that share nothing don't disturb each "
            "other.)"
        )
    return by_layer
