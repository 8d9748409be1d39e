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
from lossweigh.branches import Branch, BranchLoss, ValidElements, given_points
from lossweigh.gradients.balanced import BalancedModel
from lossweigh.gradients.loss_tap import LossTap
from lossweigh.points import PointWeights
from lossweigh.training.data import TrainingInputs
from lossweigh.training.names import data_names, index_name, target_name
from lossweigh.training.objective import WEIGHTED_LOSS, Objective, output_names
from lossweigh.weighting.base import Weighter

_MADE_BY = "Make it by `build_training_model(pred_model, losses)`."


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A training model's parts; hidden from Keras's tracking.

    Attributes:
        prediction_model: The model that predicts.
        objective: The layers from its predictions to the weighted loss.
        data: How `fit`'s data become inputs.
        metric_branches: For each output that metrics may be given for, the branch whose
            target it is compared with.
        balanced: The balanced model, if there is one.
        direct: No mask, and the graph is as `build_training_model` makes it, so that
            its layers may be called without Keras's bookkeeping.
    """

    prediction_model: keras.Model
    objective: Objective
    data: TrainingInputs
    metric_branches: dict[str, BranchLoss]
    balanced: BalancedModel | None
    direct: bool

    @property
    def losses(self) -> dict[str, Branch]:
        return self.objective.losses

    @property
    def valid(self) -> dict[str, ValidElements]:
        return self.objective.valid

    @property
    def points(self) -> dict[str, PointWeights]:
        return self.objective.points

    @property
    def weighter(self) -> Weighter:
        return self.objective.weighter


def read(model: keras.Model) -> Wiring:
    """The parts of a training model, from its layers, inputs and outputs.

    Raises:
        ValueError: If it lacks one, as `build_training_model` makes none.
    """
    if not isinstance(model.output, Mapping) or WEIGHTED_LOSS not in model.output:
        raise ValueError(
            f"A training model must have an output {WEIGHTED_LOSS!r}, its loss. "
            f"Received: outputs {_names(model.output)}. {_MADE_BY}"
        )
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
    if balanced is not None and balanced.branches != weighter.branches:
        raise ValueError(
            "A training model's balancer must balance the branches that its weighter "
            f"weighs, {weighter.branches}. Received a BalancedModel of the branches "
            f"{balanced.branches}. {_MADE_BY}"
        )
    losses = {branch: by_name[branch] for branch in weighter.branches}
    of_points = {layer.branch: layer for layer in _layers_of(model, PointWeights)}
    points = {branch: of_points[branch] for branch in losses if branch in of_points}
    for branch, layer in losses.items():  # a file holds them twice
        layer.points = given_points(points.get(branch))
    targets = {branch: layer.target for branch, layer in losses.items()}
    _check_names(model, targets)
    outputs = [key for key in model.output if key not in output_names(losses)]
    names = [*losses, *(name for name in targets.values() if name is not None)]
    structure = named_structure(
        prediction_model, data_names(model.input, names, points)
    )
    ordered = is_functional(prediction_model) or not returns_dict(
        prediction_model, keras.tree.map_structure(model.input.get, structure)
    )
    inputs = _layers_of(model, keras.layers.InputLayer)
    return Wiring(
        prediction_model,
        Objective(
            losses,
            {layer.branch: layer for layer in _layers_of(model, ValidElements)},
            points,
            weighter,
            next(iter(_layers_of(model, LossTap)), None),
        ),
        TrainingInputs(
            model.input,
            structure,
            outputs,
            targets,
            ordered=ordered,
            optional=[layer.name for layer in inputs if layer.optional],
            with_points=points,
        ),
        metric_branches(losses, outputs),
        balanced,
        direct=not may_mask(prediction_model)
        and not any(isinstance(layer.mask_name, str) for layer in losses.values())
        and _is_as_built(model, losses, points, weighter),
    )


def _check_names(model: keras.Model, targets: Mapping[str, str | None]) -> None:
    """Refuses a model without a branch's loss or target, as a renamed one is."""
    for branch, target in targets.items():
        if f"{branch}_loss" not in model.output:
            raise ValueError(
                f"A training model must have the output '{branch}_loss' for its "
                f"branch {branch!r}. Received: outputs {_names(model.output)}. "
                f"{_MADE_BY}"
            )
        if target is not None and target_name(target) not in model.input:
            raise ValueError(
                f"A training model must have the input {target_name(target)!r} for the "
                f"target of its branch {branch!r}. Received: inputs "
                f"{_names(model.input)}. {_MADE_BY}"
            )


def _names(tensors: Any) -> list[str]:
    """The names of a model's inputs or outputs, whatever their structure."""
    if isinstance(tensors, Mapping):
        return [*tensors]
    return [tensor.name for tensor in keras.tree.flatten(tensors)]


def metric_branches(
    losses: Mapping[str, Branch], outputs: Iterable[str]
) -> dict[str, BranchLoss]:
    """The branch whose target an output's metrics are given, by output.

    It is the branch with the output's name, or the first branch with a target that
    looks at the output alone.
    """
    by_output = {}
    for output in outputs:
        fitting = [
            layer
            for layer in losses.values()
            if isinstance(layer, BranchLoss) and layer.source_names == [output]
        ]
        fitting.sort(key=lambda layer: layer.branch != output)
        if fitting:
            by_output[output] = fitting[0]
    return by_output


def _is_as_built(
    model: keras.Model,
    losses: Mapping[str, Branch],
    points: Mapping[str, PointWeights],
    weighter: Weighter,
) -> bool:
    """Whether nothing was put between losses, weighter and outputs, and nothing after.

    `output` and `input` are those of a layer's first call, so a layer that was called
    before, by hand, makes this False: the model is then slower, not wrong.
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
            if branch in points:
                loss, rows = keras.tree.flatten(points[branch].input)[:2]
                ends.append((loss, layer.output))
                ends.append((rows, model.input[index_name(branch)]))
            given_on = points.get(branch, layer)
            ends.append((weighed[index], given_on.output))
            given = keras.tree.flatten(layer.input)
            if layer.target is not None:
                ends.append((given[0], model.input[target_name(layer.target)]))
            named = {**model.input, **model.output}
            if not taps:  # or the losses look at copies
                first = 0 if layer.target is None else 1
                pairs = zip(given[first:], layer.source_names, strict=False)
                ends += [(tensor, named[name]) for tensor, name in pairs]
    except (AttributeError, ValueError):
        return False
    return all(one is other for one, other in ends)


def _only(model: keras.Model, kind: type) -> Any:
    """The one layer of a kind."""
    layers = _layers_of(model, kind)
    if len(layers) != 1:
        raise ValueError(
            f"A training model must have one {kind.__name__} among its layers. "
            f"Received {len(layers)}: {[layer.name for layer in layers]}. {_MADE_BY}"
        )
    return layers[0]


def _layers_of(model: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]
