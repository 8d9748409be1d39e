"""The weighter whose weights a callback sets."""

from __future__ import annotations

import keras

from lossweigh.weighting.fixed_weights import FixedWeights


def fixed_weights_of(callback: keras.callbacks.Callback) -> FixedWeights:
    """The `FixedWeights` layer of the model that a callback belongs to.

    Raises:
        ValueError: If the model has none, or several.
    """
    # Through `callback.model`: on JAX it brings the state back to the variables.
    layers = callback.model.layers
    weighters = [layer for layer in layers if isinstance(layer, FixedWeights)]
    if len(weighters) != 1:
        raise ValueError(
            f"{type(callback).__name__} must be used with a model that has one "
            f"FixedWeights layer. Received a model with {len(weighters)}. Build it "
            "with `build_training_model(..., weighter=FixedWeights())`."
        )
    return weighters[0]
