"""What Keras leaves out of a saved loss, and of a layer that two others hold."""

from __future__ import annotations

import inspect
from typing import Any

import keras


def serialize_loss(loss: Any) -> dict[str, Any]:
    """A loss's serialized form, with every argument of its constructor.

    `get_config` of `keras.losses.Huber` and `CosineSimilarity` leaves out
    `delta` and `axis` (Keras 3.15): they reload with the defaults, which changes
    the loss in silence. The values are in `_fn_kwargs`.
    """
    serialized = keras.saving.serialize_keras_object(loss)
    config = serialized.get("config")
    if isinstance(config, dict) and isinstance(loss, keras.losses.Loss):
        accepted = inspect.signature(type(loss).__init__).parameters
        for key, value in getattr(loss, "_fn_kwargs", {}).items():
            if key in accepted:
                config.setdefault(key, keras.saving.serialize_keras_object(value))
    return serialized


def serialize_shared(layer: keras.layers.Layer) -> dict[str, Any]:
    """A layer's serialized form, for the config of another layer that holds it.

    While a model is saved, Keras marks what it meets a second time by its `id`, both
    times, so that it is one object again when it is loaded. By then it has copied the
    config of a layer that holds the object, and the first mark is lost. So the mark
    is set here, whether the object will be met again or not.
    """
    return {
        **keras.saving.serialize_keras_object(layer),
        "shared_object_id": id(layer),
    }
