"""What a training model finds in its own graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from lossweigh._structure import (
    is_functional,
    may_mask,
    named_structure,
    returns_dict,
)
from lossweigh.branches import Branch, BranchLoss, ValidElements
from lossweigh.gradients.balanced import BalancedModel
from lossweigh.gradients.loss_tap import LossTap
from lossweigh.training.data import TrainingInputs
from lossweigh.training.names import data_names, target_name
from lossweigh.weighting.base import Weighter

WEIGHTED_LOSS = "weighted_loss"
_MADE_BY = "Make it by `build_training_model(pred_model, losses)`."


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A training model's parts; hidden from Keras's tracking.

    Attributes:
        prediction_model: The model that predicts.
        weighter: What weighs the branch losses.
        losses: The branches' losses by branch name, in the weighter's order.
        data: How `fit`'s data become inputs.
        measured: For each output that metrics may be given for, the branch whose
            target it is compared with.
        optional: Inputs that may be `None`; a clone has none of them.
        balanced: The balanced model, if there is one.
        loss_tap: A `LossTap`, where there is a balanced model.
        valid: What tells a branch's valid elements, by branch, where some may not be.
        direct: No mask, and the graph is as `build_training_model` makes it, so that
            its layers may be called without Keras's bookkeeping.
    """

    prediction_model: keras.Model
    weighter: Weighter
    losses: dict[str, Branch]
    data: TrainingInputs
    measured: dict[str, BranchLoss]
    optional: frozenset[str]
    balanced: BalancedModel | None
    loss_tap: Any
    valid: dict[str, ValidElements]
    direct: bool

    def tensors(
        self,
        outputs: Mapping[str, Any],
        copies: Mapping[str, list[Any]] | None,
        inputs: Mapping[str, Any],
    ) -> dict[str, list[Any]]:
        """The tensors that each branch's loss looks at.

        Args:
            outputs: The prediction model's outputs by name.
            copies: The balanced model's copies of them, by branch, if there is one.
            inputs: The training model's inputs by name.
        """
        return looked_at(self.losses, outputs, copies, inputs)


def looked_at(
    losses: Mapping[str, Branch],
    outputs: Mapping[str, Any],
    copies: Mapping[str, list[Any]] | None,
    inputs: Mapping[str, Any],
) -> dict[str, list[Any]]:
    """The tensors that each branch's loss looks at; arguments as for `Wiring`."""
    tensors = {}
    for branch, layer in losses.items():
        ahead = iter(copies[branch] if copies is not None else ())
        tensors[branch] = [
            inputs[name]
            if name not in outputs
            else (outputs[name] if copies is None else next(ahead))
            for name in layer.looks_at
        ]
    return tensors


def read(model: keras.Model) -> Wiring:
    """The parts of a training model, from its layers, inputs and outputs.

    Raises:
        ValueError: If it lacks one, as `build_training_model` makes none.
    """
    weighter = _only(model, Weighter)
    balanced = next(iter(_layers_of(model, BalancedModel)), None)
    if balanced is None:
        prediction_model = _only(model, keras.Model)
    else:
        prediction_model = balanced.prediction_model
    by_name = {layer.branch: layer for layer in _layers_of(model, Branch)}
    if set(weighter.branches or ()) != set(by_name):
        raise ValueError(
            f"A training model's losses must be those that its weighter weighs, "
            f"{weighter.branches}. Received losses of the branches {list(by_name)}. "
            f"{_MADE_BY}"
        )
    losses = {branch: by_name[branch] for branch in weighter.branches}
    targets = {branch: layer.target for branch, layer in losses.items()}
    outputs = [key for key in model.output if key not in loss_keys(losses)]
    names = [*losses, *(name for name in targets.values() if name is not None)]
    structure = named_structure(prediction_model, data_names(model.input, names))
    ordered = is_functional(prediction_model) or not returns_dict(
        prediction_model, keras.tree.map_structure(model.input.get, structure)
    )
    inputs = _layers_of(model, keras.layers.InputLayer)
    optional = frozenset(layer.name for layer in inputs if layer.optional)
    return Wiring(
        prediction_model,
        weighter,
        losses,
        TrainingInputs(
            model.input,
            structure,
            outputs,
            targets,
            ordered=ordered,
            optional=optional,
        ),
        measured(losses, outputs),
        optional,
        balanced,
        next(iter(_layers_of(model, LossTap)), None),
        valid={layer.branch: layer for layer in _layers_of(model, ValidElements)},
        direct=not may_mask(prediction_model)
        and not any(isinstance(layer.steps, str) for layer in losses.values())
        and _is_as_built(model, losses, weighter),
    )


def measured(
    losses: Mapping[str, Branch], outputs: Iterable[str]
) -> dict[str, BranchLoss]:
    """The branch whose target an output's metrics are given, by output.

    That of the output's name, or the first that looks at the output alone and has a
    target.
    """
    found = {}
    for output in outputs:
        fitting = [
            layer
            for layer in losses.values()
            if isinstance(layer, BranchLoss) and layer.looks_at == [output]
        ]
        fitting.sort(key=lambda layer: layer.branch != output)
        if fitting:
            found[output] = fitting[0]
    return found


def loss_keys(branches: Iterable[str]) -> set[str]:
    """The keys of a training model's outputs that aren't predictions."""
    keys = {f"{branch}_{what}" for branch in branches for what in ("loss", "valid")}
    return keys | {WEIGHTED_LOSS}


def _is_as_built(
    model: keras.Model, losses: Mapping[str, Branch], weighter: Weighter
) -> bool:
    """Whether nothing was put between losses, weighter and outputs, and nothing after.

    A layer that was called more than once doesn't say what it was called on.
    """
    taps = _layers_of(model, LossTap)
    try:
        last = taps[0] if taps else weighter
        ends = [(last.output, model.output[WEIGHTED_LOSS])]
        if taps:
            ends.append((keras.tree.flatten(last.input)[0], weighter.output))
        weighed = keras.tree.flatten(weighter.input)
        for index, (branch, layer) in enumerate(losses.items()):
            ends.append((layer.output, model.output[f"{branch}_loss"]))
            ends.append((weighed[index], layer.output))
            given = keras.tree.flatten(layer.input)
            if layer.target is not None:
                ends.append((given[0], model.input[target_name(layer.target)]))
            named = {**model.input, **model.output}
            if not taps:  # or the losses look at copies
                first = 0 if layer.target is None else 1
                pairs = zip(given[first:], layer.looks_at, strict=False)
                ends += [(tensor, named[name]) for tensor, name in pairs]
    except (AttributeError, ValueError):
        return False
    return all(one is other for one, other in ends)


def _only(model: keras.Model, kind: type) -> Any:
    """The one layer of a kind."""
    found = _layers_of(model, kind)
    if len(found) != 1:
        raise ValueError(
            f"A training model must have one {kind.__name__} among its layers. "
            f"Received {len(found)}: {[layer.name for layer in found]}. {_MADE_BY}"
        )
    return found[0]


def _layers_of(model: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]
