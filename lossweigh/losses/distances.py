"""How far two vectors are from each other: an argument of metric losses."""

from __future__ import annotations

import abc
from typing import Any

import keras
from keras import ops

from lossweigh._types import Tensor


class Distance(abc.ABC):
    """A distance of two vectors.

    Abstract: a distance is a subclass with one method to write, `__call__`. Its
    gradient must be finite where the two vectors are equal. Decorate it with
    `@keras.saving.register_keras_serializable()`.
    """

    @abc.abstractmethod
    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """The distance along the last axis: `(..., features)` twice to `(...)`."""

    def ranks(self, rows: Tensor) -> Tensor:
        """Numbers that order the rows as their distances from a row do.

        It serves to choose rows, not as a loss. Override it if the distances of all
        pairs take less memory than `batch * batch * features` numbers.

        Args:
            rows: `(batch, features)`.

        Returns:
            `(batch, batch)`: in row `i`, larger for a `j` that is further from `i`.
        """
        return self(ops.expand_dims(rows, 1), ops.expand_dims(rows, 0))

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


@keras.saving.register_keras_serializable(package="lossweigh")
class SquaredEuclidean(Distance):
    """`D(x, y) = sum_f (x_f - y_f)^2`.

    Examples:
        >>> from keras import ops
        >>> distance = SquaredEuclidean()
        >>> print(ops.convert_to_numpy(distance(ops.zeros((1, 2)), ops.ones((1, 2)))))
        [2.]
    """

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return ops.sum(ops.square(left - right), axis=-1)

    def ranks(self, rows: Tensor) -> Tensor:
        # |x - y|^2 = |x|^2 - 2 <x, y> + |y|^2, without |x|^2, which is the same along a
        # row. Less is lost to rounding if the rows are centred.
        rows = rows - ops.mean(rows, axis=0, keepdims=True)
        squares = ops.sum(ops.square(rows), axis=-1)
        return ops.expand_dims(squares, 0) - 2.0 * ops.matmul(rows, ops.transpose(rows))


@keras.saving.register_keras_serializable(package="lossweigh")
class Euclidean(SquaredEuclidean):
    """`D(x, y) = sqrt(sum_f (x_f - y_f)^2)`, with a gradient of 0 where `x = y`.

    Examples:
        >>> from keras import ops
        >>> distance = Euclidean()
        >>> print(ops.convert_to_numpy(distance(ops.zeros((1, 4)), ops.ones((1, 4)))))
        [2.]
    """

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return _root(super().__call__(left, right))


@keras.saving.register_keras_serializable(package="lossweigh")
class Cosine(Distance):
    """`D(x, y) = 1 - <x, y> / (|x| |y|)`, from 0 to 2; 1 for a vector of zeros.

    Examples:
        >>> from keras import ops
        >>> distance = Cosine()
        >>> x, y = ops.array([[1.0, 0.0]]), ops.array([[-2.0, 0.0]])
        >>> print(ops.convert_to_numpy(distance(x, y)))
        [2.]
    """

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return 1.0 - ops.sum(_unit(left) * _unit(right), axis=-1)

    def ranks(self, rows: Tensor) -> Tensor:
        rows = _unit(rows)
        return -ops.matmul(rows, ops.transpose(rows))


def check_distance(distance: Any) -> Distance:
    """A `Distance`; `None` is `Euclidean()`."""
    if distance is None:
        return Euclidean()
    if not isinstance(distance, Distance):
        raise TypeError(
            "`distance` must be a Distance, such as `Euclidean()` or `Cosine()`. "
            f"Received: distance={distance!r}."
        )
    return distance


def _root(square: Tensor) -> Tensor:
    """The square root, with a gradient of 0 at 0, where the true one is infinite."""
    safe = ops.where(square > 0, square, ops.ones_like(square))
    return ops.where(square > 0, ops.sqrt(safe), ops.zeros_like(square))


def _unit(x: Tensor) -> Tensor:
    """Vectors of length 1; zeros stay zeros."""
    length = _root(ops.sum(ops.square(x), axis=-1, keepdims=True))
    return x / ops.where(length > 0, length, ops.ones_like(length))
