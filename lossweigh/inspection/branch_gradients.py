"""The gradients of all branches at what they share, measured without a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from lossweigh import _backend
from lossweigh.gradients.written_out import WrittenOut

# Where float16 overflows, the losses are scaled by so much less.
_LESS = 64.0


class BranchLosses(NamedTuple):
    """What a batch's losses are.

    Attributes:
        means: `(K,)`, each branch's mean, not weighted.
        counts: `(K,)`, of how many elements each is the mean.
    """

    means: Any
    counts: Any


class Measurement(NamedTuple):
    """What a batch shows, in NumPy.

    Attributes:
        losses: `(K,)`, the branches' means.
        counts: `(K,)`, of how many elements each is the mean.
        gramians: For each layer `(K, K)`, the inner products of the branches'
            gradients with regard to its shared variables.
    """

    losses: np.ndarray
    counts: np.ndarray
    gramians: dict[str, np.ndarray]


class GradientMeter:
    """Measures branch gradients: all variables, seeds included, stay as they are.

    The forward pass is that of training: dropout drops, and batch normalisation takes
    the batch's statistics.

    Args:
        variables: All variables that the losses depend on.
        layers: Those to take gradients of, by layer.
        losses_of: From a batch to its branch losses.
        compiled: Whether to compile.
    """

    def __init__(
        self,
        variables: Iterable[Any],
        layers: Mapping[str, Sequence[Any]],
        losses_of: Callable[[Any], BranchLosses],
        *,
        compiled: bool,
    ) -> None:
        self.layers = {layer: list(variables) for layer, variables in layers.items()}
        self.losses_of = losses_of
        self.shared = [v for variables in self.layers.values() for v in variables]
        taken = {id(variable) for variable in self.shared}
        self.others = [v for v in variables if id(v) not in taken]
        self._gradients = (
            _backend.compiled(self._measure) if compiled else self._measure
        )

    @property
    def num_parameters(self) -> int:
        """How many numbers the variables hold that gradients are taken of."""
        return sum(math.prod(variable.shape) for variable in self.shared)

    def measure(self, inputs: Any, scale: float) -> Measurement:
        """The losses and gradients of one batch.

        Args:
            inputs: What the model takes.
            scale: What the losses are multiplied by on their way back, so that
                float16 holds their gradients; it is divided out again.
        """
        shared = [ops.convert_to_tensor(variable) for variable in self.shared]
        others = [ops.convert_to_tensor(variable) for variable in self.others]
        while True:
            losses, gramians = self._gradients(
                shared, others, inputs, ops.convert_to_tensor(scale, "float32")
            )
            arrays = ops.convert_to_numpy(gramians).astype("float64") / scale**2
            if np.isfinite(arrays).all() or scale <= 1.0:
                break
            scale = max(scale / _LESS, 1.0)
        return Measurement(
            ops.convert_to_numpy(losses.means).astype("float64"),
            ops.convert_to_numpy(losses.counts).astype("float64"),
            dict(zip(self.layers, arrays, strict=True)),
        )

    def _measure(
        self, shared: Sequence[Any], others: Sequence[Any], inputs: Any, scale: Any
    ) -> tuple[BranchLosses, Any]:
        def scaled_means(*shared: Any) -> Any:
            values = [
                *zip(self.shared, shared, strict=True),
                *zip(self.others, others, strict=True),
            ]
            with keras.StatelessScope(state_mapping=values):
                losses = self.losses_of(inputs)
            return (losses.means * scale,), losses

        means, losses, pull_back = _backend.vector_jacobian(scaled_means, shared)
        number = int(means[0].shape[0])
        of_branches = pull_back(
            [ops.convert_to_tensor(row)] for row in np.eye(number, dtype="float32")
        )
        everyone = tuple(range(number))
        gramians = iter(
            WrittenOut(everyone, gradients).gramian()
            for gradients in zip(*of_branches, strict=True)
        )
        by_layer = [
            sum(next(gramians) for _ in variables) for variables in self.layers.values()
        ]
        return losses, ops.stack(by_layer)
