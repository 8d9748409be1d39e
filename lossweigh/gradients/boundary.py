"""A model in two parts, where its branches leave the layers that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from lossweigh.balancing.base import Balancer
from lossweigh.gradients.dense_heads import DenseHeads, PointwiseHeads
from lossweigh.gradients.exits import Copies, Exit, Exits
from lossweigh.gradients.graph import Call, Graph, tensors
from lossweigh.gradients.sharing import (
    read_branches,
    refuse_nothing_shared,
    split_calls,
    trained_tensors,
)

# The exits that are tried, in this order, before `Copies`.
FACTORED: tuple[type[DenseHeads], ...] = (DenseHeads, PointwiseHeads)
_NO_BRANCH = -1


@dataclasses.dataclass(frozen=True)
class Cut:
    """A model in two, over the same layers.

    Attributes:
        trunk: What several branches depend on: the model's inputs to a list of
            the boundary tensors, followed by the plain ones.
        heads: The rest. Takes a list: what the exits' `inputs` say, the plain tensors,
            and the model's inputs numbered `direct`. Gives a list of the model's
            outputs, followed by the outputs of each branch, which are its own copy
            where several branches share one.
        exits: For each boundary tensor how the branches leave it.
        direct: Which of the model's inputs, flattened, the heads use.
        layers: The names of the layers that give the boundary tensors.
    """

    trunk: keras.Model
    heads: keras.Model
    exits: Exits
    direct: tuple[int, ...]
    layers: tuple[str, ...]

    def branches_by_layer(self) -> dict[str, list[int]]:
        """For each of `layers` the branches, as indices, that leave there."""
        leaving: dict[str, set[int]] = {}
        for layer, exit in zip(self.layers, self.exits.exits, strict=True):
            leaving.setdefault(layer, set()).update(exit.branches)
        return {layer: sorted(branches) for layer, branches in leaving.items()}


class _Boundary(NamedTuple):
    """The tensors between the trunk and the heads.

    Attributes:
        shared: The keys of the tensors to balance at, and the branches of each.
        plain: The keys of the other tensors that the heads take.
        direct: Which of the model's inputs the heads take.
    """

    shared: dict[int, tuple[int, ...]]
    plain: list[int]
    direct: list[int]


def cut(
    model: keras.Model,
    balancer: Balancer,
    outputs: Sequence[Sequence[int]],
    names: Sequence[str],
    layers: Sequence[str] | None = None,
) -> Cut | None:
    """Cuts a functional model where its branches leave what they share.

    A tensor that more than one branch depends on is shared, and so is one that a layer
    makes from the model's inputs for one branch and, with the same weights, from
    others for another (a siamese encoder). The boundary is the shared floating
    tensors, with trainable layers before them, that a layer of a single branch
    takes or that are a branch's output themselves. Layers that no branch depends on
    take the same tensors and get no gradient.

    Args:
        model: The prediction model.
        balancer: What combines the gradients there.
        outputs: For each branch the indices of its outputs, flattened.
        names: The branches' names, for messages.
        layers: Names of layers whose outputs to balance, of those found;
            `None` for all.

    Returns:
        The model in two, or `None` where all that the branches share is frozen.

    Raises:
        ValueError: If no layer with weights is shared, or
            `layers` names one that isn't at the boundary.
    """
    graph, results = read_branches(model, outputs)
    inside, outside = split_calls(graph.calls, alone=len(outputs) == 1)

    boundary = _find_boundary(graph, inside, outside, results, outputs)
    if not boundary.shared:
        if any(getattr(call.operation, "weights", ()) for call in inside):
            return None
        refuse_nothing_shared(model, names, outside)
    layer_of = {
        key: call.operation.name
        for call in inside
        for key in call.outputs
        if key in boundary.shared
    }
    boundary = _of_layers(boundary, layer_of, layers)

    inputs = [id(tensor) for tensor in tensors(graph.inputs)]
    values: dict[Any, Any] = dict(zip(inputs, tensors(graph.inputs), strict=True))
    graph.replay(inside, values)
    ends = [values[key] for key in (*boundary.shared, *boundary.plain)]
    trunk = keras.Model(graph.inputs, ends, name=f"{model.name}_trunk")

    exits: list[Exit] = []
    starts: dict[Any, Any] = {}
    taken: list[Any] = []
    for key, branches in boundary.shared.items():
        leaving = [call for call in outside if key in call.inputs and call.needed_by]
        kinds = () if key in results else FACTORED
        exits.append(_exit(kinds, leaving, branches, values[key], balancer))
        starts.update(exits[-1].begin(key))
        taken += exits[-1].inputs
        stood_for = [id(call) for call in exits[-1].calls]
        outside = [call for call in outside if id(call) not in stood_for]
    for key in (*boundary.plain, *(inputs[index] for index in boundary.direct)):
        like = values[key]
        starts[key] = keras.Input(batch_shape=like.shape, dtype=like.dtype)
        taken.append(starts[key])
    graph.replay(outside, starts)
    heads = keras.Model(
        taken, _ends_of_heads(starts, results, outputs), name=f"{model.name}_heads"
    )
    return Cut(
        trunk,
        heads,
        Exits(exits),
        tuple(boundary.direct),
        tuple(layer_of[key] for key in boundary.shared),
    )


def _find_boundary(
    graph: Graph,
    inside: Sequence[Call],
    outside: Sequence[Call],
    results: Sequence[int],
    outputs: Sequence[Sequence[int]],
) -> _Boundary:
    """Which tensors the heads take.

    Args:
        graph: The model.
        inside: The calls of the trunk.
        outside: Those of the heads.
        results: The keys of the model's outputs.
        outputs: For each branch the indices of its outputs.
    """
    inputs = [id(tensor) for tensor in tensors(graph.inputs)]
    from_trunk = {key for call in inside for key in call.outputs}
    takers: dict[int, set[int]] = {}
    for call in outside:
        branch = next(iter(call.needed_by), _NO_BRANCH)
        for key in call.inputs:
            if key in from_trunk or key in inputs:
                takers.setdefault(key, set()).add(branch)
    for index, key in enumerate(results):
        if key in from_trunk or key in inputs:
            looking = {b for b, several in enumerate(outputs) if index in several}
            takers.setdefault(key, set()).update(looking or {_NO_BRANCH})
    trained = trained_tensors(inside)
    shared = {
        key: tuple(sorted(branches - {_NO_BRANCH}))
        for key, branches in takers.items()
        if key in trained and branches - {_NO_BRANCH}
    }
    plain = [
        key
        for key, branches in takers.items()
        if key in from_trunk and (key not in shared or _NO_BRANCH in branches)
    ]
    direct = [index for index, key in enumerate(inputs) if key in takers]
    return _Boundary(shared, plain, direct)


def _of_layers(
    boundary: _Boundary, layer_of: Mapping[int, str], layers: Sequence[str] | None
) -> _Boundary:
    """The boundary at the outputs of some layers only."""
    if layers is None:
        return boundary
    unknown = [name for name in layers if name not in layer_of.values()]
    if unknown:
        raise ValueError(
            "`layers` of a balancer's Representation must name layers at which "
            "branches leave what they share, of "
            f"{sorted(set(layer_of.values()))}. Received: layers={list(layers)} "
            f"(not among them: {unknown})."
        )
    chosen = {k: v for k, v in boundary.shared.items() if layer_of[k] in layers}
    others = [key for key in boundary.shared if key not in chosen]
    plain = [*boundary.plain, *(key for key in others if key not in boundary.plain)]
    return _Boundary(chosen, plain, boundary.direct)


def _exit(
    kinds: Sequence[type[DenseHeads]],
    calls: Sequence[Call],
    branches: Sequence[int],
    tensor: Any,
    balancer: Balancer,
) -> Exit:
    for kind in kinds:
        exit = kind.matching(calls, branches, tensor, balancer)
        if exit is not None:
            return exit
    return Copies.of(branches, tensor)


def _ends_of_heads(
    values: Mapping[Any, Any],
    results: Sequence[int],
    outputs: Sequence[Sequence[int]],
) -> list[Any]:
    """The model's outputs, followed by each branch's copies of its outputs."""
    pairs = [(b, index) for b, several in enumerate(outputs) for index in several]
    first = {index: branch for branch, index in reversed(pairs)}
    every = [(first.get(index), index) for index in range(len(results))]
    return [
        values.get((results[index], branch), values.get(results[index]))
        for branch, index in (*every, *pairs)
    ]
