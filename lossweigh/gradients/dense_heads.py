"""Branches that leave a shared tensor by a small layer each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lossweigh.balancing.base import Balancer
from lossweigh.balancing.site import Site
from lossweigh.gradients.exits import Exit
from lossweigh.gradients.factored import Factored
from lossweigh.gradients.graph import Call

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


class DenseHeads(Exit):
    """Gives out the layers' products, side by side, in the tensor's place.

    So the products' gradients come back, with as many columns as the layers have units.
    The biases and activations belong to the heads.

    Args:
        calls: The calls of the layers, in the order of the branches.
        tensor: The shared tensor, a KerasTensor.
    """

    num_outputs = 1
    num_parameters = 1

    def __init__(self, calls: Sequence[Call], tensor: Any) -> None:
        self.calls = sorted(calls, key=lambda call: min(call.needed_by))
        self.layers = [call.operation for call in self.calls]
        self.branches = tuple(min(call.needed_by) for call in self.calls)
        self.units = tuple(self.units_of(layer) for layer in self.layers)
        self.inputs = [
            keras.Input(
                batch_shape=(*tensor.shape[:-1], units), dtype=layer.compute_dtype
            )
            for layer, units in zip(self.layers, self.units, strict=True)
        ]

    @classmethod
    def matching(
        cls,
        calls: Sequence[Call],
        branches: Sequence[int],
        tensor: Any,
        balancer: Balancer,
    ) -> Exit | None:
        """The exit for these calls, or `None` if it can't stand for them or costs more.

        Args:
            calls: All calls of the heads that take the tensor.
            branches: The branches that leave here, as indices.
            tensor: The shared tensor, a KerasTensor.
            balancer: What combines the gradients.
        """
        leaving = sorted(branch for call in calls for branch in call.needed_by)
        if leaving != list(branches) or not all(
            cls.fits(call.operation)
            and call.operation.compute_dtype == calls[0].operation.compute_dtype
            and call.operation.activity_regularizer is None
            and getattr(call.operation, "quantization_mode", None) is None
            for call in calls
        ):
            return None
        units = [cls.units_of(call.operation) for call in calls]
        return cls(calls, tensor) if pays(balancer, units, tensor.shape[-1]) else None

    # What another kind of layer with a kernel does otherwise.

    @staticmethod
    def fits(layer: Any) -> bool:
        """Whether a layer is nothing but `activation(tensor @ kernel + bias)`."""
        return type(layer) is keras.layers.Dense

    @staticmethod
    def units_of(layer: Any) -> int:
        """How many columns the layer's kernel has."""
        return int(layer.units)

    @staticmethod
    def kernel_of(layer: Any) -> Any:
        """The layer's kernel as a matrix, `(features, units)`."""
        return layer.kernel

    # The exit -----------------------------------------------------------------

    def begin(self, key: int) -> Mapping[Any, Any]:
        return {
            call.outputs[0]: _activated(call.operation, tensor)
            for call, tensor in zip(self.calls, self.inputs, strict=True)
        }

    def parameters(self) -> list[Any]:
        """`(features, C)`: the layers' kernels side by side, in their compute dtype.

        Raises:
            ValueError: If a layer was quantized after the model was cut behind it.
        """
        quantized = [
            layer.name
            for layer in self.layers
            if getattr(layer, "quantization_mode", None)
        ]
        if quantized:
            raise ValueError(
                "`quantize` must be called before `build_training_model` where there "
                "is a balancer: it changes how the layers compute. Received a model "
                f"whose layers {quantized} were quantized after it. Build the training "
                "model again."
            )
        kernels = [
            ops.cast(self.kernel_of(layer), layer.compute_dtype)
            for layer in self.layers
        ]
        return [ops.concatenate(kernels, axis=-1)]

    def leave(self, tensor: Any, parameters: Sequence[Any]) -> list[Any]:
        (kernel,) = parameters
        return [ops.matmul(ops.cast(tensor, kernel.dtype), kernel)]

    def finish(self, outputs: Sequence[Any]) -> list[Any]:
        several = list(outputs)  # not every backend splits into one
        if len(self.layers) > 1:
            ends = np.cumsum(self.units)[:-1]
            several = ops.split(outputs[0], [int(end) for end in ends], axis=-1)
        # Not the parts themselves: torch's are views, which fewer operations take.
        return [
            ops.copy(part)
            if layer.bias is None
            else part + ops.cast(layer.bias, layer.compute_dtype)
            for layer, part in zip(self.layers, several, strict=True)
        ]

    def site(self, gradients: Sequence[Any], parameters: Sequence[Any]) -> Site:
        return Factored(self.branches, self.units, gradients[0], parameters[0])

    def parameter_gradients(self, site: Any, tensor: Any) -> list[Any]:
        return [site.kernel_gradient(tensor)]


class PointwiseHeads(DenseHeads):
    """As `DenseHeads`, by convolutions of size 1: `Dense` layers of the channels."""

    @staticmethod
    def fits(layer: Any) -> bool:
        return (
            type(layer) in _CONVOLUTIONS
            and {*layer.kernel_size, *layer.strides, layer.groups} == {1}
            and layer.data_format == "channels_last"
        )

    @staticmethod
    def units_of(layer: Any) -> int:
        return int(layer.filters)

    @staticmethod
    def kernel_of(layer: Any) -> Any:
        return ops.reshape(layer.kernel, (-1, layer.filters))


def pays(balancer: Balancer, units: Sequence[int], features: int) -> bool:
    """Whether factors cost less than the gradients written out.

    Factors cost two products of `C = sum(units)` columns; written out, the gradients
    cost K copies of the tensor. A method that looks at single elements finds them in
    the factors only where each layer has one unit.

    Args:
        balancer: What combines the gradients.
        units: How many each layer has.
        features: How many the shared tensor has.
    """
    by_element = (
        balancer.needs_mean_abs or type(balancer).combine is not Balancer.combine
    )
    if by_element and max(units) > 1:
        return False
    return sum(units) ** 2 <= 4 * len(units) * features


def _activated(layer: Any, tensor: Any) -> Any:
    if layer.activation in (None, keras.activations.linear):
        return tensor
    return keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)(tensor)
