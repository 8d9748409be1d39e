"""Where the branches of a model leave the layers that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from lossweigh.gradients.graph import Call, Graph, tensors


@dataclasses.dataclass(frozen=True)
class Cut:
    """A model in two, over the same layers.

    Attributes:
        trunk: What several branches depend on: the model's inputs to a list of
            the boundary tensors, followed by the plain ones.
        heads: The rest. Takes a list: for each boundary tensor a copy for each of
            its owners, the plain tensors, and the model's inputs numbered
            `direct`. Gives a list of the model's outputs, followed by the outputs of
            each branch, which are its own copy where several branches share one.
        owners: For each boundary tensor the branches, as indices, that leave there.
        direct: Which of the model's inputs, flattened, the heads use.
        places: The names of the layers that made the boundary tensors.
        dense: The boundary tensors, as indices, that each owner leaves by a small
            `Dense` layer, and these layers. The heads take what such a layer gives
            before its activation in the copy's place.
    """

    trunk: keras.Model
    heads: keras.Model
    owners: tuple[tuple[int, ...], ...]
    direct: tuple[int, ...]
    places: tuple[str, ...]
    dense: Mapping[int, tuple[keras.layers.Dense, ...]]


def cut(
    model: keras.Model,
    outputs: Sequence[Sequence[int]],
    names: Sequence[str],
    shared: Sequence[str] | None = None,
    by_dense: Callable[[Sequence[int], int], bool] | None = None,
) -> Cut | None:
    """Cuts a functional model where its branches leave what they share.

    A tensor that more than one branch depends on is shared, and so is one that a layer
    makes from the model's inputs for one branch and, with the same weights, from
    others for another (a siamese encoder). The boundary is the shared floating
    tensors, with trainable layers before them, that a layer of a single branch
    takes or that are a branch's output themselves. What no branch depends on is
    computed from the same tensors and gets no gradient.

    Args:
        model: The prediction model.
        outputs: For each branch the indices of its outputs, flattened.
        names: The branches' names, for messages.
        shared: Names of layers whose outputs to balance, of those found;
            `None` for all.
        by_dense: Whether to cut behind `Dense` layers, as `Cut.dense` says, that have
            so many units each and a tensor of so many features.

    Returns:
        The model in two, or `None` where all that the branches share is frozen.

    Raises:
        ValueError: If no layer with weights is shared, or
            `shared` names a layer that isn't at the boundary.
    """
    graph = Graph(model)
    graph.settle()
    inputs = [id(tensor) for tensor in tensors(graph.inputs)]
    results = [graph.key(tensor) for tensor in tensors(graph.outputs)]
    branch_of: dict[int, set[int]] = {}
    for branch, some in enumerate(outputs):
        for output in some:
            branch_of.setdefault(results[output], set()).add(branch)
    _mark(graph.calls, branch_of)

    inside, outside = _in_two(graph.calls, alone=len(outputs) == 1)
    made_by = {key: call for call in inside for key in call.outputs}
    trained = _trained(inside)

    # Who takes what from the trunk; -1 is nobody's branch.
    takers: dict[int, set[int]] = {}
    for call in outside:
        branch = next(iter(call.needed_by), -1)
        for key in call.inputs:
            if key in made_by or key in inputs:
                takers.setdefault(key, set()).add(branch)
    for index, key in enumerate(results):
        if key in made_by or key in inputs:
            here = {b for b, some in enumerate(outputs) if index in some}
            takers.setdefault(key, set()).update(here or {-1})

    boundary = {
        key: tuple(sorted(who - {-1}))
        for key, who in takers.items()
        if key in trained and who - {-1}
    }
    places = {key: made_by[key].operation.name for key in boundary}
    if not boundary:
        if any(getattr(call.operation, "weights", ()) for call in inside):
            return None
        _nothing_shared(model, names, _called_by_several(outside))
    if shared is not None:
        unknown = [name for name in shared if name not in places.values()]
        if unknown:
            raise ValueError(
                "`shared` must name layers at which branches leave what they share, of "
                f"{sorted(set(places.values()))}. Received: shared={list(shared)} "
                f"(not among them: {unknown})."
            )
        boundary = {key: who for key, who in boundary.items() if places[key] in shared}
    plain = [
        key
        for key, who in takers.items()
        if key in made_by and (key not in boundary or -1 in who)
    ]
    direct = [index for index, key in enumerate(inputs) if key in takers]

    values: dict[Any, Any] = dict(zip(inputs, tensors(graph.inputs), strict=True))
    graph.replay(inside, values)
    ends = [values[key] for key in (*boundary, *plain)]
    trunk = keras.Model(graph.inputs, ends, name=f"{model.name}_trunk")

    spec = {key: _like(values[key]) for key in (*plain, *(inputs[i] for i in direct))}
    taken: list[Any] = []
    starts: dict[Any, Any] = {}
    dense: dict[int, tuple[keras.layers.Dense, ...]] = {}
    for place, (key, who) in enumerate(boundary.items()):
        leaving = [call for call in outside if key in call.inputs and call.needed_by]
        shape = values[key].shape
        if (
            by_dense is not None
            and key not in results
            and _all_dense(leaving, who)
            and by_dense([call.operation.units for call in leaving], shape[-1])
        ):
            leaving.sort(key=lambda call: min(call.needed_by))
            dense[place] = tuple(call.operation for call in leaving)
            for call in leaving:
                taken.append(_before_activation(call.operation, shape))
                starts[call.outputs[0]] = _activated(call.operation, taken[-1])
                outside.remove(call)
            continue
        for branch in who:
            starts[key, branch] = _like(values[key])
            taken.append(starts[key, branch])
    starts.update(spec)
    taken += spec.values()
    graph.replay(outside, starts)
    owned = [(b, index) for b, some in enumerate(outputs) for index in some]
    owner = {index: b for b, index in reversed(owned)}  # the first
    made = [
        starts.get((results[index], b), starts.get(results[index]))
        for b, index in (*((owner.get(i), i) for i in range(len(results))), *owned)
    ]
    heads = keras.Model(taken, made, name=f"{model.name}_heads")
    return Cut(
        trunk,
        heads,
        tuple(boundary.values()),
        tuple(direct),
        tuple(places[key] for key in boundary),
        dense,
    )


def _all_dense(calls: list[Call], who: Sequence[int]) -> bool:
    """Whether each of some branches leaves a tensor by one `Dense` layer."""
    branches = sorted(branch for call in calls for branch in call.needed_by)
    return branches == list(who) and all(
        type(call.operation) is keras.layers.Dense
        and call.operation.compute_dtype == calls[0].operation.compute_dtype
        and call.operation.activity_regularizer is None
        and call.operation.quantization_mode is None
        for call in calls
    )


def _before_activation(layer: keras.layers.Dense, shape: Any) -> Any:
    shape = (*shape[:-1], layer.units)
    return keras.Input(batch_shape=shape, dtype=layer.compute_dtype)


def _activated(layer: keras.layers.Dense, tensor: Any) -> Any:
    if layer.activation in (None, keras.activations.linear):
        return tensor
    return keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)(tensor)


def _mark(calls: list[Call], branch_of: dict[int, set[int]]) -> None:
    """Writes down for each call which branches depend on it."""
    needed = {key: frozenset(who) for key, who in branch_of.items()}
    for call in reversed(calls):
        nobody: frozenset[int] = frozenset()
        call.needed_by = nobody.union(*(needed.get(k, nobody) for k in call.outputs))
        for key in call.inputs:
            needed[key] = needed.get(key, nobody) | call.needed_by


def _in_two(calls: Sequence[Call], alone: bool) -> tuple[list[Call], list[Call]]:
    """The calls of the trunk, and the others, in order."""
    inside = {
        id(call)
        for call in calls
        if len(call.needed_by) > 1 or (alone and call.needed_by)
    }
    trunk = [call for call in calls if id(call) in inside]
    inside.update(_with_shared_weights(calls, inside, _trained(trunk)))
    return (
        [call for call in calls if id(call) in inside],
        [call for call in calls if id(call) not in inside],
    )


def _with_shared_weights(
    calls: Sequence[Call], inside: set[int], trained: set[int]
) -> set[int]:
    """The calls of single branches that share their weights with others.

    But not behind trained tensors, whether shared, where the branches part, or of
    one branch alone, whose layers no other branch has to do with.
    """
    several = _called_by_several(calls)
    barred: set[int] = set()  # weights with a call that must stay outside
    while True:
        before = len(barred)
        found: dict[int, Call] = {}  # tensors, by what may come inside
        own = set(trained)  # tensors that it must not be behind
        for call in calls:
            if id(call) in inside or not call.needed_by:
                continue
            if own.isdisjoint(call.inputs) and call.weights <= several - barred:
                found.update(dict.fromkeys(call.outputs, call))
            else:
                barred |= call.weights
                own.update(call.outputs)
        if len(barred) == before:
            break
    chosen: set[int] = set()
    needed = {key for call in found.values() if call.weights for key in call.outputs}
    for call in reversed(calls):
        if not needed.isdisjoint(call.outputs) and call.outputs[0] in found:
            chosen.add(id(call))
            needed.update(call.inputs)
    return chosen


def _called_by_several(calls: Sequence[Call]) -> set[int]:
    """The ids of the weights that more than one branch depends on."""
    users: dict[int, set[int]] = {}
    for call in calls:
        for weight in call.weights:
            users.setdefault(weight, set()).update(call.needed_by)
    return {weight for weight, who in users.items() if len(who) > 1}


def _trained(calls: Sequence[Call]) -> set[int]:
    """The floating tensors that depend on a trainable variable of these calls."""
    trained: set[int] = set()
    for call in calls:
        if call.weights or any(key in trained for key in call.inputs):
            trained.update(
                key
                for key, floating in zip(call.outputs, call.floating, strict=True)
                if floating
            )
    return trained


def _nothing_shared(model: keras.Model, names: Sequence[str], behind: set[int]) -> None:
    if behind:
        why = (
            "they share layers only behind layers of their own, where their gradients "
            "aren't comparable. Leave `balancer` out and balance with a weighter."
        )
    else:
        why = (
            "each branch has layers of its own only (or one subclassed layer makes "
            "several outputs, and hides what they share). Leave `balancer` out and "
            "balance with a weighter."
        )
    raise ValueError(
        f"`balancer` needs trainable layers that the branches {list(names)} share. In "
        f"the model {model.name!r} {why}"
    )


def _like(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
