"""Where the branches of a model leave the layers that they share."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from lossweigh.training.structure import is_functional, symbolic_inputs


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


@dataclasses.dataclass
class _Call:
    operation: Any
    args: Any
    kwargs: Any
    inputs: list[int]
    outputs: list[int]
    needed_by: frozenset[int] = frozenset()


class _Graph:
    """The calls of a functional model in order, read with `clone_model`.

    A nested model whose outputs go to different places is read in its turn.
    """

    def __init__(self, model: keras.Model) -> None:
        self.calls: list[_Call] = []
        self._same: dict[int, int] = {}  # a tensor of a nested model -> the outer one
        self._alive: list[Any] = []  # or an id could be used twice
        self.inputs = symbolic_inputs(model)
        self.outputs = self._read(model, self.inputs, training=None)

    def key(self, tensor: Any) -> int:
        key = id(tensor)
        while key in self._same:
            key = self._same[key]
        return key

    def _read(
        self, model: keras.Model, inputs: Any, training: bool | None
    ) -> list[Any]:
        inner = keras.Model(model.inputs, model.outputs)
        self._alive.append(inner)

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if training is not None and _takes_training(operation):
                kwargs.setdefault("training", training)
            outputs = operation(*args, **kwargs)
            self._alive.append((args, kwargs, outputs))
            if _has_parts(operation, args):
                fresh = symbolic_inputs(operation)
                made = self._read(operation, fresh, kwargs.get("training"))
                self._alive.append(fresh)
                for inside, outside in (
                    *zip(_tensors(fresh), _tensors(args[0]), strict=True),
                    *zip(_tensors(outputs), _tensors(made), strict=True),
                ):
                    self._same[id(inside)] = id(outside)
            else:
                self.calls.append(
                    _Call(
                        operation,
                        args,
                        kwargs,
                        [id(tensor) for tensor in _tensors((args, kwargs))],
                        [id(tensor) for tensor in _tensors(outputs)],
                    )
                )
            return outputs

        read = keras.models.clone_model(
            inner,
            input_tensors=_tensors(inputs),
            clone_function=lambda layer: layer,
            call_function=call,
        )
        self._alive.append(read)
        return list(read.outputs)

    def settle(self) -> None:
        """Replaces the ids of nested models' tensors, once all are known."""
        for call in self.calls:
            call.inputs = [self._settled(key) for key in call.inputs]
            call.outputs = [self._settled(key) for key in call.outputs]

    def _settled(self, key: int) -> int:
        while key in self._same:
            key = self._same[key]
        return key

    def replay(self, calls: Iterable[_Call], values: dict[Any, Any]) -> None:
        """Calls the same layers again.

        Args:
            calls: What to call, in order.
            values: KerasTensors by the key of the tensor that they stand for, or
                by key and branch, for that branch only; results are added.
        """
        for call in calls:
            branch = next(iter(call.needed_by)) if len(call.needed_by) == 1 else None

            def value(tensor: Any, branch: int | None = branch) -> Any:
                if not isinstance(tensor, keras.KerasTensor):
                    return tensor
                key = self.key(tensor)
                return values.get((key, branch), values.get(key))

            args, kwargs = keras.tree.map_structure(value, (call.args, call.kwargs))
            outputs = call.operation(*args, **kwargs)
            values.update(zip(call.outputs, _tensors(outputs), strict=True))


def cut(
    model: keras.Model,
    outputs: Sequence[Sequence[int]],
    names: Sequence[str],
    shared: Sequence[str] | None = None,
    by_dense: Callable[[Sequence[int], int], bool] | None = None,
) -> Cut:
    """Cuts a functional model where its branches leave what they share.

    A tensor that more than one branch depends on is shared. The boundary is the
    shared tensors, with trainable layers before them, that a layer of a single
    branch takes or that are a branch's output themselves. What no branch depends
    on is computed from the same tensors and gets no gradient.

    Args:
        model: The prediction model.
        outputs: For each branch the indices of its outputs, flattened.
        names: The branches' names, for messages.
        shared: Names of layers whose outputs to balance, of those found;
            `None` for all.
        by_dense: Whether to cut behind `Dense` layers, as `Cut.dense` says, that have
            so many units each and a tensor of so many features.

    Raises:
        ValueError: If the model is opaque, no trainable layer is shared, or
            `shared` names a layer that isn't at the boundary.
    """
    if not is_functional(model):
        raise ValueError(
            "`balancer` must know which layers the branches share, and the model "
            f"{model.name!r} (a {type(model).__name__}) doesn't show them. Build the "
            "prediction model as a functional one, `keras.Model(inputs, outputs)` "
            "(its layers may be subclassed), or leave `balancer` out."
        )
    graph = _Graph(model)
    graph.settle()
    inputs = [id(tensor) for tensor in _tensors(graph.inputs)]
    results = [graph.key(tensor) for tensor in _tensors(graph.outputs)]
    branch_of: dict[int, set[int]] = {}
    for branch, some in enumerate(outputs):
        for output in some:
            branch_of.setdefault(results[output], set()).add(branch)
    _mark(graph.calls, branch_of)

    alone = len(outputs) == 1

    def is_shared(who: frozenset[int]) -> bool:
        return len(who) > 1 or (alone and bool(who))

    inside = [call for call in graph.calls if is_shared(call.needed_by)]
    outside = [call for call in graph.calls if not is_shared(call.needed_by)]
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
        _nothing_shared(model, names, frozen=bool(inside))
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

    values: dict[Any, Any] = dict(zip(inputs, _tensors(graph.inputs), strict=True))
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


def _all_dense(calls: list[_Call], who: Sequence[int]) -> bool:
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


def _mark(calls: list[_Call], branch_of: dict[int, set[int]]) -> None:
    """Writes down for each call which branches depend on it."""
    needed = {key: frozenset(who) for key, who in branch_of.items()}
    for call in reversed(calls):
        nobody: frozenset[int] = frozenset()
        call.needed_by = nobody.union(*(needed.get(k, nobody) for k in call.outputs))
        for key in call.inputs:
            needed[key] = needed.get(key, nobody) | call.needed_by


def _trained(calls: list[_Call]) -> set[int]:
    """The tensors that depend on a trainable variable of these calls."""
    trained: set[int] = set()
    for call in calls:
        own = getattr(call.operation, "trainable_variables", ())
        if own or any(key in trained for key in call.inputs):
            trained.update(call.outputs)
    return trained


def _nothing_shared(model: keras.Model, names: Sequence[str], frozen: bool) -> None:
    raise ValueError(
        f"`balancer` needs trainable layers that the branches {list(names)} share. "
        + (
            f"In the model {model.name!r} all that they share is frozen: a gradient "
            "that reaches no parameter needs no balance. Leave `balancer` out, or "
            "set `trainable = True` before building the training model."
            if frozen
            else f"In the model {model.name!r} each branch has layers of its own only "
            "(or one subclassed layer makes several outputs, and hides what they "
            "share). Leave `balancer` out and balance with a weighter."
        )
    )


def _takes_training(operation: Any) -> bool:
    return "training" in inspect.signature(operation.call).parameters


def _has_parts(operation: Any, args: Any) -> bool:
    """Whether it is a nested functional model with several outputs."""
    return (
        isinstance(operation, keras.Model)
        and not isinstance(operation, keras.Sequential)
        and is_functional(operation)
        and len(operation.outputs) > 1
        and len(args) == 1
        and len(_tensors(args[0])) == len(operation.inputs)
    )


def _tensors(structure: Any) -> list[Any]:
    return [
        leaf
        for leaf in keras.tree.flatten(structure)
        if isinstance(leaf, keras.KerasTensor)
    ]


def _like(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)
