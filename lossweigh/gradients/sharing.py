"""Which calls of a model, and which weights, its branches share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import keras

from lossweigh.gradients.graph import Call, Graph, tensors


def read_branches(
    model: keras.Model, outputs: Sequence[Sequence[int]]
) -> tuple[Graph, list[int]]:
    """The calls of a functional model, each marked with the branches that need it.

    Args:
        model: The functional model.
        outputs: For each branch the indices of its outputs, flattened.

    Returns:
        The graph, and the keys of the model's outputs.
    """
    graph = Graph(model)
    graph.settle()
    results = [graph.key(tensor) for tensor in tensors(graph.outputs)]
    branches_of: dict[int, set[int]] = {}
    for branch, several in enumerate(outputs):
        for output in several:
            branches_of.setdefault(results[output], set()).add(branch)
    mark_branches(graph.calls, branches_of)
    return graph, results


def layers_of(
    model: keras.Model, outputs: Sequence[Sequence[int]], branches: Collection[int]
) -> list[keras.layers.Layer]:
    """The layers of a functional model that these branches use, and no others.

    A layer that shares a variable with another one isn't among them, unless that is.

    Args:
        model: The prediction model.
        outputs: For each branch the indices of its outputs, flattened.
        branches: The branches, as indices.
    """
    graph, _ = read_branches(model, outputs)
    calls = [call for call in graph.calls if getattr(call.operation, "variables", ())]
    kept = {
        id(variable)
        for call in calls
        if not call.needed_by or not call.needed_by <= set(branches)
        for variable in call.operation.variables
    }
    layers = {
        id(call.operation): call.operation
        for call in calls
        if kept.isdisjoint(id(variable) for variable in call.operation.variables)
    }
    return list(layers.values())


def mark_branches(calls: list[Call], branches_of: dict[int, set[int]]) -> None:
    """Writes down for each call which branches depend on it."""
    needed = {key: frozenset(branches) for key, branches in branches_of.items()}
    for call in reversed(calls):
        nobody: frozenset[int] = frozenset()
        call.needed_by = nobody.union(*(needed.get(k, nobody) for k in call.outputs))
        for key in call.inputs:
            needed[key] = needed.get(key, nobody) | call.needed_by


def split_calls(calls: Sequence[Call], alone: bool) -> tuple[list[Call], list[Call]]:
    """The calls of the trunk, and the others, in order."""
    inside = {
        id(call)
        for call in calls
        if len(call.needed_by) > 1 or (alone and call.needed_by)
    }
    trunk = [call for call in calls if id(call) in inside]
    inside.update(_with_shared_weights(calls, inside, trained_tensors(trunk)))
    return (
        [call for call in calls if id(call) in inside],
        [call for call in calls if id(call) not in inside],
    )


def _with_shared_weights(
    calls: Sequence[Call], inside: set[int], trained: set[int]
) -> set[int]:
    """The calls of single branches that share their weights with others.

    It leaves out calls behind trained tensors: behind shared ones the branches have
    parted, and the layers behind those of one branch concern no other branch.
    """
    several = used_by_several(calls)
    barred: set[int] = set()  # weights with a call that must stay outside
    while True:
        before = len(barred)
        candidates: dict[int, Call] = {}  # by the tensors that they give
        behind = set(trained)  # tensors that a candidate must not take
        for call in calls:
            if id(call) in inside or not call.needed_by:
                continue
            if behind.isdisjoint(call.inputs) and call.weights <= several - barred:
                candidates.update(dict.fromkeys(call.outputs, call))
            else:
                barred |= call.weights
                behind.update(call.outputs)
        if len(barred) == before:
            break
    chosen: set[int] = set()
    needed = {
        key for call in candidates.values() if call.weights for key in call.outputs
    }
    for call in reversed(calls):
        if not needed.isdisjoint(call.outputs) and call.outputs[0] in candidates:
            chosen.add(id(call))
            needed.update(call.inputs)
    return chosen


def used_by_several(calls: Sequence[Call]) -> set[int]:
    """The ids of the weights that more than one branch depends on."""
    users: dict[int, set[int]] = {}
    for call in calls:
        for weight in call.weights:
            users.setdefault(weight, set()).update(call.needed_by)
    return {weight for weight, branches in users.items() if len(branches) > 1}


def trained_tensors(calls: Sequence[Call]) -> set[int]:
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


def refuse_nothing_shared(
    model: keras.Model, names: Sequence[str], calls: Sequence[Call]
) -> None:
    """An error for branches without shared layers at which they could be balanced.

    Args:
        model: The prediction model.
        names: The branches' names.
        calls: The calls of the heads.

    Raises:
        ValueError: Always.
    """
    if used_by_several(calls):
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
