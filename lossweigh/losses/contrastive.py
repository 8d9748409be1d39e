"""Hadsell, Chopra & LeCun: similar pairs near each other, others a margin apart."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh._types import Tensor
from lossweigh.losses import _shapes
from lossweigh.losses.distances import Distance, check_distance


@keras.saving.register_keras_serializable(package="lossweigh")
class Contrastive(keras.losses.Loss):
    """Pulls the vectors of a similar pair together, and pushes other pairs apart.

        L = y D^2 / 2 + (1 - y) max(0, m - D)^2 / 2

    with `D` the distance of the pair's two vectors, `m` the margin beyond which a
    dissimilar pair isn't pushed further, and `y` 1 for a similar pair and 0 for a
    dissimilar one. **The paper's `Y` is the opposite**, 0 for a similar pair.

    In a model it is used as `BranchLoss(Contrastive(), of=["left", "right"])`. A
    dissimilar pair at distance 0 has a loss but no direction, so its gradient is 0.

    Args:
        margin: Float greater than 0.
        distance: A `Distance`. Default: `Euclidean()`, the paper's.
        name: Name of the loss.
        reduction: As in Keras.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, 1 or 0, or a number between for pairs that
            are partly similar.
        left: The vectors of one side of the pairs, `(batch, features)`.
        right: Those of the other side.

    Returns:
        `call` gives `(batch,)` float32.

    Raises:
        TypeError: If `distance` isn't a `Distance`.
        ValueError: If `margin` isn't greater than 0; if tensors don't have these
            shapes.

    Examples:
        >>> from keras import ops
        >>> loss = Contrastive(margin=2.0, reduction="none")
        >>> left, right = ops.zeros((2, 1)), ops.array([[1.5], [1.5]])
        >>> print(ops.convert_to_numpy(loss.call(ops.array([1, 0]), left, right)))
        [1.125 0.125]

    Reference:
        R. Hadsell, S. Chopra, Y. LeCun. Dimensionality reduction by learning an
        invariant mapping. CVPR 2006.
    """

    def __init__(
        self,
        *,
        margin: float = 1.0,
        distance: Distance | None = None,
        name: str = "contrastive",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.margin = _check.positive("margin", margin)
        self.distance = check_distance(distance)

    def call(self, y_true: Tensor, left: Tensor, right: Tensor) -> Tensor:
        left, right = ops.cast(left, "float32"), ops.cast(right, "float32")
        _shapes.vectors(left=left, right=right)
        similar = ops.cast(_shapes.number_a_sample("y_true", y_true), "float32")
        distance = self.distance(left, right)
        missing = ops.maximum(self.margin - distance, 0.0)
        together, apart = ops.square(distance), ops.square(missing)
        return 0.5 * (similar * together + (1.0 - similar) * apart)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "distance": keras.saving.serialize_keras_object(self.distance),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Contrastive:
        config = dict(config)
        if isinstance(config.get("distance"), dict):
            config["distance"] = keras.saving.deserialize_keras_object(
                config["distance"]
            )
        return cls(**config)
