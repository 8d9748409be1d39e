"""A branch's arguments: its tensors, which steps are real, and weights of points."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from lossweigh.points.base import PointWeights


def names_of(of: Any) -> list[str] | None:
    """`of` as a list of names, `None` for the output of the branch's name."""
    if of is None:
        return None
    names = [of] if is_name(of) else of
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not all(is_name(name) for name in names)
    ):
        raise TypeError(
            "`of` must be the name of an output or input of the prediction model, or a "
            f"list of names. Received: of={of!r}."
        )
    return [str(name) for name in names]


def is_name(value: Any) -> bool:
    """Whether it is a name, or the whole number that is an output's key."""
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def check_mask(mask: Any) -> str | bool | None:
    """`mask`, checked: a name, `False` or `None`."""
    if mask is None or mask is False or isinstance(mask, str):
        return mask
    raise TypeError(
        "`mask` must be None (the mask that Keras carries), the name of an input or "
        "output of the prediction model that holds a mask (batch, time) or lengths "
        f"(batch,), or False (every step is real). Received: mask={mask!r}."
    )


@dataclasses.dataclass(frozen=True)
class GivenPoints:
    """A branch's weights of points, out of Keras's sight.

    They are a layer of the training model. As an attribute of the branch's layer they
    would be saved twice, and loaded as two.

    Attributes:
        layer: The layer, or `None`.
    """

    layer: PointWeights | None

    def get_config(self) -> Any:
        """The layer as it is saved with the branch, or `None`."""
        if self.layer is None:
            return None
        return keras.saving.serialize_keras_object(self.layer)


def given_points(point_weights: Any) -> GivenPoints:
    """`point_weights`, checked."""
    if point_weights is None or isinstance(point_weights, PointWeights):
        return GivenPoints(point_weights)
    raise TypeError(
        "`point_weights` must be weights of points, such as "
        "`lossweigh.points.ResidualAttention(num_points)`, or None. Received: "
        f"point_weights={point_weights!r}."
    )
