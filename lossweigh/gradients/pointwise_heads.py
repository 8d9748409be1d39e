"""Branches that leave a shared tensor by a convolution of size 1 each."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh.gradients.dense_heads import DenseHeads

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


class PointwiseHeads(DenseHeads):
    """As `DenseHeads`: such a convolution is a `Dense` layer of the channels."""

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
