"""The calls of a functional model."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterable
from typing import Any

import keras

from lossweigh._structure import is_functional, symbolic_inputs


@dataclasses.dataclass
class Call:
    """A call of a layer or an operation.

    Attributes:
        operation: The layer or operation.
        args: What it was called on, with KerasTensors.
        kwargs: Likewise.
        inputs: The keys of the tensors it takes.
        outputs: The keys of those it makes.
        floating: Which outputs are floating, so that a gradient can come back.
        needed_by: The branches that depend on it, as indices.
    """

    operation: Any
    args: Any
    kwargs: Any
    inputs: list[int]
    outputs: list[int]
    floating: list[bool]
    needed_by: frozenset[int] = frozenset()

    @functools.cached_property
    def weights(self) -> frozenset[int]:
        """The ids of the variables of a layer that are trained.

        A layer that isn't trainable may hold one that is: one that was thawed since.
        """
        variables = getattr(self.operation, "variables", ())
        return frozenset(id(variable) for variable in variables if variable.trainable)


class Graph:
    """The calls of a functional model in order, read with `clone_model`.

    A nested model whose outputs go to different places is read in its turn.
    """

    def __init__(self, model: keras.Model) -> None:
        self.calls: list[Call] = []
        self._same: dict[int, int] = {}  # a tensor of a nested model -> the outer one
        self._alive: list[Any] = []  # or an id could be used twice
        self.inputs = symbolic_inputs(model)
        self.outputs = self._read(model, self.inputs, training=None)

    def key(self, tensor: Any) -> int:
        return self._settled(id(tensor))

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
                inside_outputs = self._read(operation, fresh, kwargs.get("training"))
                self._alive.append(fresh)
                for inside, outside in (
                    *zip(tensors(fresh), tensors(args[0]), strict=True),
                    *zip(tensors(outputs), tensors(inside_outputs), strict=True),
                ):
                    self._same[id(inside)] = id(outside)
            else:
                self.calls.append(
                    Call(
                        operation,
                        args,
                        kwargs,
                        [id(tensor) for tensor in tensors((args, kwargs))],
                        [id(tensor) for tensor in tensors(outputs)],
                        [
                            keras.backend.is_float_dtype(tensor.dtype)
                            for tensor in tensors(outputs)
                        ],
                    )
                )
            return outputs

        read = keras.models.clone_model(
            inner,
            input_tensors=tensors(inputs),
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

    def replay(self, calls: Iterable[Call], values: dict[Any, Any]) -> None:
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
            values.update(zip(call.outputs, tensors(outputs), strict=True))


def tensors(structure: Any) -> list[Any]:
    """The KerasTensors in a structure."""
    return [
        leaf
        for leaf in keras.tree.flatten(structure)
        if isinstance(leaf, keras.KerasTensor)
    ]


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
        and len(tensors(args[0])) == len(operation.inputs)
    )
