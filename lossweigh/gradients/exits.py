"""How the branches leave a shared tensor, and how their gradients come back."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from lossweigh.balancing.site import Site
from lossweigh.gradients.graph import Call
from lossweigh.gradients.written_out import WrittenOut


class Exit(abc.ABC):
    """How some branches leave one shared tensor.

    Abstract: a subclass gives something out in the forward pass, and makes a `Site` of
    the gradients that come back for it. `Copies` serves any model, and
    `DenseHeads.matching` says which calls the others can stand for.

    Attributes:
        branches: The branches that leave here, as indices.
        num_outputs: How many tensors are given out.
        num_parameters: How many tensors `parameters` gives.
        calls: The calls of a functional model that the exit stands for.
        inputs: The KerasTensors that the heads take, one for each branch.
    """

    branches: tuple[int, ...]
    num_outputs: int
    num_parameters: int = 0
    calls: Sequence[Call] = ()
    inputs: Sequence[Any]

    @abc.abstractmethod
    def begin(self, key: int) -> Mapping[Any, Any]:
        """What `Graph.replay` begins the heads with.

        Args:
            key: The shared tensor's key.
        """

    def parameters(self) -> list[Any]:
        """The weights that the exit computes with, beside the shared tensor."""
        return []

    @abc.abstractmethod
    def leave(self, tensor: Any, parameters: Sequence[Any]) -> list[Any]:
        """What the exit gives out; called while gradients aren't recorded."""

    def finish(self, outputs: Sequence[Any]) -> list[Any]:
        """The heads' inputs, from the tensors that `leave` gave out."""
        return list(outputs)

    @abc.abstractmethod
    def site(self, gradients: Sequence[Any], parameters: Sequence[Any]) -> Site:
        """The branches' gradients, from the gradients of what `leave` gave out."""

    def parameter_gradients(self, site: Site, tensor: Any) -> list[Any]:
        """The gradients of `parameters`."""
        return []


@dataclasses.dataclass(frozen=True)
class Copies(Exit):
    """Each branch leaves with a copy of the tensor."""

    branches: tuple[int, ...]
    inputs: Sequence[Any]

    @classmethod
    def of(cls, branches: Sequence[int], tensor: Any) -> Copies:
        """Copies of a KerasTensor."""
        inputs = [
            keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for _ in branches
        ]
        return cls(tuple(branches), inputs)

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        return len(self.branches)

    def begin(self, key: int) -> Mapping[Any, Any]:
        pairs = zip(self.branches, self.inputs, strict=True)
        return {(key, branch): tensor for branch, tensor in pairs}

    def leave(self, tensor: Any, parameters: Sequence[Any]) -> list[Any]:
        return [tensor] * len(self.branches)

    def site(self, gradients: Sequence[Any], parameters: Sequence[Any]) -> Site:
        return WrittenOut(self.branches, gradients)


class Exits:
    """How the branches leave all shared tensors.

    Args:
        exits: One `Exit` for each tensor.
    """

    def __init__(self, exits: Sequence[Exit]) -> None:
        self.exits = tuple(exits)
        self._outputs = [exit.num_outputs for exit in exits]
        self._parameters = [exit.num_parameters for exit in exits]

    @property
    def num_outputs(self) -> int:
        return sum(self._outputs)

    def parameters(self) -> list[Any]:
        return [tensor for exit in self.exits for tensor in exit.parameters()]

    def leave(self, tensors: Sequence[Any], parameters: Sequence[Any]) -> list[Any]:
        """What all of them give out, tensor by tensor."""
        given = zip(
            self.exits,
            tensors,
            split_by_lengths(parameters, self._parameters),
            strict=True,
        )
        return [out for exit, t, several in given for out in exit.leave(t, several)]

    def finish(self, outputs: Sequence[Any]) -> list[Any]:
        """What the heads take, tensor by tensor."""
        several = split_by_lengths(outputs, self._outputs)
        pairs = zip(self.exits, several, strict=True)
        return [tensor for exit, given in pairs for tensor in exit.finish(given)]

    def sites(self, gradients: Sequence[Any], parameters: Sequence[Any]) -> list[Site]:
        """The gradients at each tensor, from the gradients of what `leave` gave out."""
        given = zip(
            self.exits,
            split_by_lengths(gradients, self._outputs),
            split_by_lengths(parameters, self._parameters),
            strict=True,
        )
        return [exit.site(several, kernels) for exit, several, kernels in given]

    def parameter_gradients(
        self, sites: Sequence[Site], tensors: Sequence[Any]
    ) -> list[Any]:
        """The gradients of `parameters`."""
        given = zip(self.exits, sites, tensors, strict=True)
        return [g for exit, site, t in given for g in exit.parameter_gradients(site, t)]


def split_by_lengths(
    sequence: Sequence[Any], lengths: Sequence[int]
) -> list[Sequence[Any]]:
    """A sequence cut into parts of these lengths."""
    cut, begin = [], 0
    for length in lengths:
        cut.append(sequence[begin : begin + length])
        begin += length
    return cut
