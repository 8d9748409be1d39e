"""The losses that `build_training_model` was given: by branch, checked."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from lossweigh import _check
from lossweigh.branches import Branch, BranchLoss
from lossweigh.points import PointWeights
from lossweigh.training.names import (
    index_name,
    layer_name,
    sample_weight_name,
    target_name,
)
from lossweigh.training.objective import output_names


def losses_by_name(losses: Any, outputs: list[str]) -> dict[str, Any]:
    """The losses that aren't `None` by branch name, in the order they were given."""
    if isinstance(losses, Mapping):
        losses = _check.by_name(losses)
        further = [name for name, loss in losses.items() if isinstance(loss, Branch)]
        further = [name for name in further if losses[name].of is not None]
        cure = (
            " For a further branch say which outputs it looks at: "
            "`BranchLoss(loss, of=...)`."
        )
        known = dict.fromkeys([*outputs, *further])
        _check.known_names("losses", losses, known, cure)
        named = dict(losses)
    elif isinstance(losses, (list, tuple)):
        if len(losses) != len(outputs):
            raise ValueError(
                f"`losses` must hold one loss for each of the {len(outputs)} outputs "
                f"{outputs}, or None for an output that isn't trained. Give a second "
                "loss of an output a name: "
                f"{{{outputs[0]!r}: ..., 'second': BranchLoss(..., of={outputs[0]!r})}}"
                f". Received {len(losses)}: losses={list(losses)}."
            )
        named = dict(zip(outputs, losses, strict=True))
    elif len(outputs) == 1 or not (losses is None or isinstance(losses, Branch)):
        named = dict.fromkeys(outputs, losses)  # one for all
    else:
        raise TypeError(
            f"`losses` must be a dict by output name or a list, for the outputs "
            f"{outputs}. Received: losses={losses!r}."
        )
    chosen = {name: loss for name, loss in named.items() if loss is not None}
    if not chosen:
        raise ValueError(
            f"`losses` must hold a loss for at least one of the outputs {outputs}. "
            f"Received: losses={losses!r}."
        )
    return chosen


def as_branch(branch: str, loss: Any, taken: Container[str] = ()) -> Branch:
    """A branch's loss as a layer, with a name that isn't taken."""
    if not isinstance(loss, Branch):
        try:
            name = unused(f"{branch}_loss", taken)
            return BranchLoss(loss, branch=branch, name=name)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In `losses[{branch!r}]`: {error}") from None
    return loss


def unused(name: str, taken: Container[str]) -> str:
    """A layer's name, with `_` added where it is taken."""
    name = layer_name(name)
    while name in taken:
        name += "_"
    return name


def check_identities(layers: dict[str, Branch]) -> None:
    """Refuses one layer for two branches."""
    owners: dict[int, str] = {}
    for branch, layer in layers.items():
        owner = owners.setdefault(id(layer), layer.branch or branch)
        if owner != branch:
            raise ValueError(
                f"`losses[{branch!r}]` is the {type(layer).__name__} of the branch "
                f"{owner!r} already. Give each branch a {type(layer).__name__} of its "
                "own."
            )


def checked_points(layers: dict[str, Branch]) -> dict[str, PointWeights]:
    """The branches' weights of points, where they have some, each a fresh object."""
    points: dict[str, PointWeights] = {}
    for branch, layer in layers.items():
        weights = layer.points.layer
        if weights is None:
            continue
        what = f"`point_weights` of `losses[{branch!r}]`"
        kind = type(weights).__name__
        owners = [name for name, other in points.items() if other is weights]
        owners += [] if weights.branch in (None, branch) else [weights.branch]
        if owners:
            raise ValueError(
                f"{what} are the {kind} of the branch {owners[0]!r} already. Give each "
                "branch weights of points of its own."
            )
        if weights.has_learned():
            raise ValueError(
                f"{what} must not have learned anything yet. Received: the {kind} of "
                f"another training model, {weights.name!r}, whose weights have moved. "
                "Make new ones for each training model, or give `.fresh()`, which has "
                "the same arguments."
            )
        points[branch] = weights
    return points


def check_names(
    layers: dict[str, Branch], outputs: list[str], inputs: list[str]
) -> None:
    """Checks that `of` and `mask` of each branch name outputs or inputs."""
    known = list(dict.fromkeys([*outputs, *inputs]))
    for branch, layer in layers.items():
        of = [branch] if layer.of is None else layer.of
        cure = " To use the tensor of an inner layer, make it an output of the model."
        _check.known_names(f"losses[{branch!r}].of", of, known, cure)
        if isinstance(layer.mask_name, str):
            _check.known_names(f"losses[{branch!r}].mask", [layer.mask_name], known)
        if not any(name in outputs for name in of):
            raise ValueError(
                f"`losses[{branch!r}]` must look at one or more of the outputs "
                f"{outputs}: nothing else is trained. Received: of={of}."
            )
        if branch in outputs and branch not in of:
            raise ValueError(
                f"`losses[{branch!r}]` has the name of an output and must be of that "
                f"output. Received: of={of}. Give the branch another name."
            )


def check_rows(
    branch: str, names: list[str], tensors: list[Any], rows: int | None
) -> None:
    """Refuses a branch's tensors if their first axis isn't the samples.

    Args:
        branch: The branch's name.
        names: The names of what it looks at.
        tensors: What it looks at, KerasTensors.
        rows: The size of the batch, `None` if any will do.
    """
    for name, tensor in zip(names, tensors, strict=True):
        if len(tensor.shape) == 0:
            raise ValueError(
                f"The branch {branch!r} must be of tensors with a row for each sample. "
                f"Received {name!r}, a single number for the whole batch. Give the "
                "output the mean of each sample: `ops.mean(..., axis=-1)`, not "
                "`ops.mean(...)`."
            )
        if tensor.shape[0] != rows:
            raise ValueError(
                f"The branch {branch!r} must be of tensors with a row for each sample, "
                f"{rows} of them. Received {name!r} of the shape "
                f"{tuple(tensor.shape)}. Keep the batch's axis in what the layers do."
            )


def check_clashes(
    name: str, inputs: list[str], outputs: list[str], layers: dict[str, Branch]
) -> None:
    """Refuses what has a name that the training model uses."""
    branches = list(layers)
    taken = _input_names(layers)
    if name in taken:
        raise ValueError(
            f"`pred_model` must not be named {name!r}: the training model uses that "
            "name for an input. Name it otherwise, as in `keras.Model(inputs, outputs, "
            'name="predictor")`.'
        )
    # Losses whose logs would have the names of the total and the sum.
    totals = {name for name in ("weighted", "unweighted") if name in branches}
    for what, names, reserved in (
        ("input", inputs, taken),
        ("output", outputs, output_names(branches) | totals),
    ):
        clashes = [name for name in names if name in reserved]
        if clashes:
            raise ValueError(
                f"`pred_model` must not have an {what} named {clashes[0]!r}: the "
                "training model uses that name for a branch. Received the "
                f"{what}s {names} and the branches {branches}. Rename the layer."
            )
    if totals:
        raise ValueError(
            f"`losses` must not have a branch named {min(totals)!r}: the log "
            f"`{min(totals)}_loss` is the training model's. Give it another name."
        )


def _input_names(layers: dict[str, Branch]) -> set[str]:
    """The names of the training model's inputs that aren't the prediction model's."""
    targets = {layer.target for layer in layers.values() if layer.target is not None}
    named = [*map(sample_weight_name, layers), *map(target_name, targets)]
    named += [index_name(b) for b, layer in layers.items() if layer.points.layer]
    twice = {name for name in named if named.count(name) > 1}
    if twice:
        raise ValueError(
            "`losses` must have names that differ in more than `/` and `_`. Received: "
            f"{[*layers]}; two of them need an input {min(twice)!r}."
        )
    return set(named)
