"""A network as a function from columns to columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._structure import (
    named_outputs,
    named_structure,
    output_positions,
    symbolic_inputs,
)
from lossweigh._types import Shape, Tensor
from lossweigh.layers.derivative_names import name_columns


class NetworkColumns:
    """Which columns of a network's inputs and outputs have which names.

    Args:
        network: The network, built.
        variables: As for `Derivatives`.
        outputs: Likewise.

    Attributes:
        shapes: The shapes of the inputs by name.
        variables: The names of the columns to differentiate by, by input.
        outputs: The names of the columns to differentiate, by output.
        dtype: What they are computed in, if the layers don't cast.
    """

    def __init__(self, network: keras.Model, variables: Any, outputs: Any) -> None:
        symbolic = symbolic_inputs(network)
        inputs = {tensor.name: tensor for tensor in keras.tree.flatten(symbolic)}
        self.shapes: dict[str, Shape] = {n: tuple(t.shape) for n, t in inputs.items()}
        self.structure = named_structure(network, list(inputs))
        computed = named_outputs(network, network.compute_output_spec(symbolic))
        self.variables = name_columns("variables", variables, _of_rows(inputs))
        self.outputs = name_columns("outputs", outputs, _of_rows(computed))
        self.dtype = _widest(
            *(inputs[name].dtype for name in self.variables),
            *(computed[name].dtype for name in self.outputs),
        )
        positions = output_positions(network)
        self._positions = [positions[name] for name in self.outputs]

    def extra_axes(self, inputs: Any) -> int:
        """How many axes the inputs have in front of the network's.

        Raises:
            TypeError: If something that isn't a tensor is among them.
            ValueError: If they are others than the network's.
        """
        extra = set()
        given = dict(zip(self.shapes, self._in_order(inputs), strict=True))
        for name, tensor in given.items():
            if not hasattr(tensor, "shape"):
                raise TypeError(
                    "`inputs` must be tensors or arrays. Received for the input "
                    f"{name!r}: {tensor!r} (of type {type(tensor).__name__})."
                )
            shape, inner = tuple(tensor.shape), self.shapes[name][1:]
            last = shape[len(shape) - len(inner) :]
            pairs = zip(last, inner, strict=len(last) == len(inner))
            fits = all(size == other or None in (size, other) for size, other in pairs)
            if len(shape) <= len(inner) or not fits:
                sizes = ", ".join(
                    "..." if size is None else str(size) for size in inner
                )
                raise ValueError(
                    f"`inputs` must be (batch, {sizes}) for the input {name!r} of the "
                    f"network, a row for each point. Received the shape {shape}."
                )
            extra.add(len(shape) - len(inner) - 1)
        if len(extra) > 1:
            shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
            raise ValueError(
                "`inputs` must all have as many axes in front of the network's. "
                f"Received the shapes {shapes} for inputs of the shapes {self.shapes}."
            )
        return extra.pop()

    def rows(self, inputs: Any, extra: int) -> list[Tensor]:
        """The inputs, in the network's order and with its number of axes.

        Args:
            inputs: As given.
            extra: The number of `extra_axes`.
        """
        rows = []
        for name, tensor in zip(self.shapes, self._in_order(inputs), strict=True):
            tensor = ops.convert_to_tensor(tensor)
            if extra:
                size = ops.shape(tensor)
                tensor = ops.reshape(tensor, (-1, *size[extra + 1 :]))
            if name in self.variables:
                tensor = _cast(tensor, self.dtype)
            rows.append(tensor)
        return rows

    def split(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """The columns to differentiate by, `(batch, 1)` each."""
        return [
            column
            for name, tensor in zip(self.shapes, rows, strict=True)
            if name in self.variables
            for column in _columns(tensor, len(self.variables[name]))
        ]

    def join(self, columns: Sequence[Tensor], rows: Sequence[Tensor]) -> Any:
        """What the network takes.

        Args:
            columns: What `split` gives.
            rows: Where the other inputs are.
        """
        left, whole = list(columns), []
        for name, tensor in zip(self.shapes, rows, strict=True):
            number = len(self.variables.get(name, ()))
            taken, left = left[:number], left[number:]
            if number > 1:
                tensor = ops.concatenate(taken, axis=-1)
            whole.append(taken[0] if number == 1 else tensor)
        return self.pack(whole)

    def pack(self, rows: Sequence[Tensor]) -> Any:
        return keras.tree.pack_sequence_as(self.structure, list(rows))

    def of_outputs(self, outputs: Any) -> list[Tensor]:
        """The columns of what the network gives, `(batch, 1)` each."""
        flat = keras.tree.flatten(outputs)
        return [
            column
            for names, position in zip(
                self.outputs.values(), self._positions, strict=True
            )
            for column in _columns(_cast(flat[position], self.dtype), len(names))
        ]

    def in_sets(self, column: Tensor, inputs: Any, extra: int) -> Tensor:
        """A result with the extra axes of the inputs."""
        if not extra:
            return column
        size = ops.shape(self._in_order(inputs)[0])
        return ops.reshape(column, (*size[: extra + 1], 1))

    def shape_of_results(self, inputs: Any) -> Shape:
        first = self._in_order(inputs)[0]
        return (*first.shape[: self.extra_axes(inputs) + 1], 1)

    def _in_order(self, inputs: Any) -> list[Any]:
        if isinstance(inputs, Mapping) and not isinstance(self.structure, Mapping):
            _check.names("inputs", inputs, self.shapes)
        if isinstance(inputs, Mapping) and set(inputs) == set(self.shapes):
            return [inputs[name] for name in self.shapes]
        flat = keras.tree.flatten(inputs)
        if len(flat) != len(self.shapes):
            raise ValueError(
                f"`inputs` must be what the network takes, {list(self.shapes)}. "
                f"Received {len(flat)} of them."
            )
        return flat


def _widest(*dtypes: str) -> str:
    """The dtype with the most digits.

    `keras.backend.result_type` gives float32 for float64, but on TensorFlow.
    """
    return next((d for d in ("float64", "float32") if d in dtypes), dtypes[0])


def _of_rows(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """The shapes of the floating tensors with rows and columns."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2
        and tensor.shape[1] is not None
        and keras.backend.is_float_dtype(tensor.dtype)
    }


def _columns(tensor: Tensor, number: int) -> list[Tensor]:
    if number == 1:
        return [tensor]
    return [tensor[:, index : index + 1] for index in range(number)]


def _cast(tensor: Tensor, dtype: str) -> Tensor:
    is_there = keras.backend.standardize_dtype(tensor.dtype) == dtype
    return tensor if is_there else ops.cast(tensor, dtype)
