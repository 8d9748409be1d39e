"""What a training model computes of predictions and targets: losses, and their sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lossweigh.branches import Branch, ValidElements
from lossweigh.gradients.loss_tap import LossTap
from lossweigh.points import PointWeights
from lossweigh.training.names import index_name, sample_weight_name, target_name
from lossweigh.weighting.base import Weighter

WEIGHTED_LOSS = "weighted_loss"


@dataclasses.dataclass(frozen=True)
class BranchResult:
    """What a branch gives in a step.

    Attributes:
        loss: `(batch,)`, its loss, not weighted, by its points neither.
        layer: What computes its loss.
        valid: Which elements of its prediction count, 1 or 0; `None` if all do.
    """

    loss: Any
    layer: Branch
    valid: Any = None

    @property
    def count(self) -> Any:
        """How many elements the loss is the mean of; `None` for the rows."""
        return None if self.valid is None else self.layer.count(self.valid)


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a training model gives in a step.

    Attributes:
        predictions: The prediction model's outputs by name.
        branches: What each branch gives, by its name.
        weighted_loss: `(batch,)`, the loss that training minimises.
    """

    predictions: dict[str, Any]
    branches: dict[str, BranchResult]
    weighted_loss: Any

    def as_outputs(self) -> dict[str, Any]:
        """All of it as a model's outputs, by name."""
        outputs = dict(self.predictions)
        for branch, result in self.branches.items():
            outputs[_loss_name(branch)] = result.loss
            if result.valid is not None:
                outputs[_valid_name(branch)] = result.valid
        outputs[WEIGHTED_LOSS] = self.weighted_loss
        return outputs

    @classmethod
    def of_outputs(
        cls, outputs: Mapping[str, Any], losses: Mapping[str, Branch]
    ) -> StepResult:
        """The same again, from a model's outputs by name.

        Args:
            outputs: What the training model gave.
            losses: The branches' losses by name.
        """
        results = {}
        for branch, layer in losses.items():
            valid = outputs.get(_valid_name(branch))
            results[branch] = BranchResult(outputs[_loss_name(branch)], layer, valid)
        names = output_names(losses)
        predictions = {k: v for k, v in outputs.items() if k not in names}
        return cls(predictions, results, outputs[WEIGHTED_LOSS])


def output_names(branches: Iterable[str]) -> set[str]:
    """The names of a training model's outputs that aren't predictions."""
    names = {name(b) for b in branches for name in (_loss_name, _valid_name)}
    return names | {WEIGHTED_LOSS}


def _loss_name(branch: str) -> str:
    return f"{branch}_loss"


def _valid_name(branch: str) -> str:
    return f"{branch}_valid"


def call_layer(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls a layer as Keras does: what makes a model's graph."""
    return layer(*args, **kwargs)


def call_directly(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls what a layer computes, without Keras's bookkeeping.

    The bookkeeping takes longer than the branch losses: on torch, a graph of eight
    branches takes 1.4 times as long with it.
    """
    return layer.call(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The layers from predictions and targets to the weighted loss.

    Attributes:
        losses: The branches' losses by branch name, in the weighter's order.
        valid: What tells a branch's valid elements, where some may not be.
        points: What weighs a branch's points, where something does.
        weighter: What weighs the branch losses.
        loss_tap: What tells a balancer the losses, if there is one.
    """

    losses: dict[str, Branch]
    valid: dict[str, ValidElements]
    points: dict[str, PointWeights]
    weighter: Weighter
    loss_tap: LossTap | None = None

    def evaluate(
        self,
        inputs: Mapping[str, Any],
        predictions: Mapping[str, Any],
        copies: Mapping[str, list[Any]] | None,
        tap: Any,
        call: Callable[..., Any],
        **training: Any,
    ) -> StepResult:
        """The losses of a batch, or their part of the training model's graph.

        Args:
            inputs: The training model's inputs by name.
            predictions: The prediction model's outputs by name.
            copies: A `BalancedModel`'s copies of them by branch, if there is one.
            tap: What it gave for `LossTap`.
            call: `call_layer` or `call_directly`.
            **training: `training=`, for what differs in it, if that is known.
        """
        loss_tensors = tensors_by_branch(self.losses, predictions, copies, inputs)
        named = {**inputs, **predictions}
        results, losses = {}, []
        for branch, layer in self.losses.items():
            target = None if layer.target is None else inputs[target_name(layer.target)]
            weight = inputs.get(sample_weight_name(branch))
            masked_by = {}
            if isinstance(layer.mask_name, str):
                masked_by["step_mask"] = named[layer.mask_name]
            packed = layer.pack(target, loss_tensors[branch], weight)
            loss = call(layer, packed, **masked_by, **training)
            valid = None
            if branch in self.valid:
                first = loss_tensors[branch][0]
                pair = [first if target is None else target, first]
                valid = call(self.valid[branch], pair, **masked_by)
            results[branch] = BranchResult(loss, layer, valid)
            if branch in self.points:
                pair = [loss, inputs.get(index_name(branch))]
                counts = {"valid": valid, "sample_weight": weight}
                loss = call(self.points[branch], pair, **counts, **training)
            losses.append(loss)
        valids = [result.valid for result in results.values()]
        weighted = call(self.weighter, losses, valid=valids, **training)
        if self.loss_tap is not None:
            weighted = call(self.loss_tap, [weighted, tap, *losses])
        return StepResult(dict(predictions), results, weighted)


def tensors_by_branch(
    losses: Mapping[str, Branch],
    predictions: Mapping[str, Any],
    copies: Mapping[str, list[Any]] | None,
    inputs: Mapping[str, Any],
) -> dict[str, list[Any]]:
    """The tensors that each branch's loss looks at.

    Args:
        losses: The branches' losses by name.
        predictions: The prediction model's outputs by name.
        copies: A `BalancedModel`'s copies of them by branch, if there is one.
        inputs: The training model's inputs by name.
    """
    tensors = {}
    for branch, layer in losses.items():
        ahead = iter(copies[branch] if copies is not None else ())
        tensors[branch] = [
            inputs[name]
            if name not in predictions
            else (predictions[name] if copies is None else next(ahead))
            for name in layer.source_names
        ]
    return tensors
