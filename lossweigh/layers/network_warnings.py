"""What keeps a network's derivatives from being what an equation needs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from lossweigh import _compat

# Activations, layers and operations with kinks, by name without case and `_`.
_KINKED = {
    *("relu", "relu6", "leakyrelu", "prelu", "selu", "threshold"),
    *("hardsigmoid", "hardsilu", "hardtanh", "hardshrink", "softshrink"),
    *("sparsesigmoid", "sparsemax", "abs", "absolute", "clip"),
    *("max", "min", "amax", "amin", "maximum", "minimum"),
    *(
        f"{pooling}{n}d"
        for pooling in ("maxpooling", "globalmaxpooling")
        for n in "123"
    ),
}


class DerivativeWarning(UserWarning):
    """The derivatives of a network aren't what an equation needs.

    `Derivatives` warns of a network that isn't smooth enough for its second
    derivatives, or whose layers compute in half precision.
    """


@dataclasses.dataclass
class NetworkTraits:
    """What a network's layers mean for its derivatives; hidden from Keras's tracking.

    Attributes:
        kinked: The layers and operations with kinks, with what has them.
        half: The layers that compute in half precision, with their dtypes.
        coupling: The layers that mix the rows of a batch in training.
        warned: What was warned of.
    """

    kinked: dict[str, str]
    half: dict[str, str]
    coupling: list[keras.layers.Layer]
    warned: set[str] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, network: keras.Model) -> NetworkTraits:
        layers = _compat.layers_at_any_depth(network)
        kinked = {}
        for operation in _operations(network, layers):
            for thing in (operation, getattr(operation, "activation", None)):
                name = getattr(thing, "__name__", type(thing).__name__)
                if name.lower().replace("_", "") in _KINKED:
                    kinked[operation.name] = name
        half = {
            layer.name: str(layer.compute_dtype)
            for layer in layers
            if layer.weights and layer.compute_dtype in ("float16", "bfloat16")
        }
        coupling = [
            layer
            for layer in layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        return cls(kinked, half, coupling)

    def check(self, order: int, training: bool | None) -> None:
        """Warns once of kinks and half precision; refuses rows that are mixed.

        Args:
            order: The highest order of the derivatives.
            training: As the layer was called.

        Raises:
            ValueError: If a layer mixes the rows of a batch.
        """
        mixing = [layer.name for layer in self.coupling if layer.trainable]
        if mixing and order > 0 and training is not False:
            raise ValueError(
                "`network` must compute each row of a batch by itself, or its "
                "derivatives by its inputs aren't those of a function. Received "
                f"BatchNormalization layers that train, {mixing}, which mix the rows. "
                "Take LayerNormalization, or freeze them (`layer.trainable = False`). "
                "After training, call Derivatives with `training=False`."
            )
        if order > 1 and self.kinked:
            self._warn(
                "kinks",
                f"The network isn't smooth enough for second derivatives: {self.kinked}"
                " have kinks, at which these don't exist, and which they don't see "
                "elsewhere (that of a relu is 0). Take a smooth activation, such as "
                '"tanh", "gelu" or "silu".',
            )
        if order > 0 and self.half:
            self._warn(
                "half precision",
                f"The layers {self.half} compute in half precision, in which "
                "derivatives have two or three right digits. Make the network's "
                'layers with `dtype="float32"`.',
            )

    def _warn(self, what: str, message: str) -> None:
        if what not in self.warned:
            self.warned.add(what)
            warnings.warn(message, DerivativeWarning, stacklevel=4)


def _operations(network: keras.Model, layers: list[Any]) -> Iterator[Any]:
    """The layers of a network at any depth, and the operations of `keras.ops` in it."""
    yield from layers
    for model in (network, *layers):
        if isinstance(model, keras.Model):
            for operation in getattr(model, "operations", ()):
                if not isinstance(operation, keras.layers.Layer):
                    yield operation
