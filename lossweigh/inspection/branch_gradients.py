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


class PlainStep(NamedTuple):
    """What a step of training with equal weights would do.

    Attributes:
        gradients: The sum of the branches' gradients, for each variable of `descent`.
        moved: What the forward pass makes of each other variable.
    """

    gradients: list[Any]
    moved: list[Any]


class Measurement(NamedTuple):
    """What a batch shows, in NumPy.

    Attributes:
        losses: `(K,)`, the branches' means.
        counts: `(K,)`, of how many elements each is the mean.
        gramians: For each layer `(K, K)`, the inner products of the branches'
            gradients with regard to its shared variables.
        step: What a step of training would do; `None` where nobody asks, or where a
            gradient isn't finite.
    """

    losses: np.ndarray
    counts: np.ndarray
    gramians: dict[str, np.ndarray]
    step: PlainStep | None


class GradientMeter:
    """Measures branch gradients: all variables, seeds included, stay as they are.

    The forward pass is that of training: dropout drops, and batch normalisation takes
    the batch's statistics.

    Args:
        variables: All variables that the losses depend on.
        layers: The variables to compare gradients at, by layer.
        losses_of: From a batch to its branch losses.
        compiled: Whether to compile.
        descent: The variables that `Measurement.step` has gradients of.

    Attributes:
        others: Those of the variables that aren't in `descent`, nor compared at.
    """

    def __init__(
        self,
        variables: Iterable[Any],
        layers: Mapping[str, Sequence[Any]],
        losses_of: Callable[[Any], BranchLosses],
        *,
        compiled: bool,
        descent: Sequence[Any] = (),
    ) -> None:
        self.layers = {layer: list(several) for layer, several in layers.items()}
        self.losses_of = losses_of
        self.shared = [v for several in self.layers.values() for v in several]
        compared = {id(variable) for variable in self.shared}
        self.descent = list(descent)
        self.heads = [v for v in self.descent if id(v) not in compared]
        differentiated = compared | {id(variable) for variable in self.heads}
        self.others = [v for v in variables if id(v) not in differentiated]
        self._run = _backend.compiled(self._measure) if compiled else self._measure

    @property
    def num_parameters(self) -> int:
        """How many numbers the variables hold that gradients are compared at."""
        return sum(math.prod(variable.shape) for variable in self.shared)

    def measure(self, inputs: Any, scale: float) -> Measurement:
        """The losses and gradients of one batch.

        Args:
            inputs: What the model takes.
            scale: What the losses are multiplied by on their way back, so that
                float16 holds their gradients; it is divided out again.
        """
        parameters = [ops.convert_to_tensor(v) for v in (*self.shared, *self.heads)]
        others = [ops.convert_to_tensor(variable) for variable in self.others]
        while True:
            factor = ops.convert_to_tensor(scale, "float32")
            with _backend.alone():
                losses, gramians, sums, moved = self._run(
                    parameters, others, inputs, factor
                )
            arrays = ops.convert_to_numpy(gramians).astype("float64") / scale**2
            finite = np.isfinite(arrays).all() and all(map(_is_finite, sums))
            if finite or scale <= 1.0:
                break
            scale = max(scale / _LESS, 1.0)
        return Measurement(
            ops.convert_to_numpy(losses.means).astype("float64"),
            ops.convert_to_numpy(losses.counts).astype("float64"),
            dict(zip(self.layers, arrays, strict=True)),
            self._step(sums, moved, scale) if finite else None,
        )

    def _step(
        self, sums: list[Any], moved: list[Any], scale: float
    ) -> PlainStep | None:
        if not self.descent:
            return None
        variables = (*self.shared, *self.heads)
        by_id = {id(v): total / scale for v, total in zip(variables, sums, strict=True)}
        return PlainStep([by_id[id(variable)] for variable in self.descent], moved)

    def _measure(
        self, parameters: Sequence[Any], others: Sequence[Any], inputs: Any, scale: Any
    ) -> tuple[BranchLosses, Any, list[Any], list[Any]]:
        def scaled_means(*parameters: Any) -> Any:
            values = [
                *zip((*self.shared, *self.heads), parameters, strict=True),
                *zip(self.others, others, strict=True),
            ]
            with keras.StatelessScope(state_mapping=values) as scope:
                losses = self.losses_of(inputs)
            moved = [scope.get_current_value(variable) for variable in self.others]
            return (losses.means * scale,), (losses, moved)

        means, (losses, moved), pull_back = _backend.vector_jacobian(
            scaled_means, parameters
        )
        number = int(means[0].shape[0])
        of_branches = pull_back(
            [ops.convert_to_tensor(row)] for row in np.eye(number, dtype="float32")
        )
        by_variable = list(zip(*of_branches, strict=True))
        everyone = tuple(range(number))
        gramians = iter(
            WrittenOut(everyone, gradients).gramian()
            for gradients in by_variable[: len(self.shared)]
        )
        by_layer = [
            sum(next(gramians) for _ in variables) for variables in self.layers.values()
        ]
        sums = [sum(gradients) for gradients in by_variable] if self.descent else []
        return losses, ops.stack(by_layer), sums, moved if self.descent else []


def _is_finite(gradient: Any) -> bool:
    return bool(ops.convert_to_numpy(ops.all(ops.isfinite(gradient))))
