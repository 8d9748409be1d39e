"""`Site`: a tensor where the gradients of several branches meet."""

from __future__ import annotations

import abc
from typing import Any

from lossweigh._types import Mask, Tensor


class Site(abc.ABC):
    """The gradients of m branches at one shared tensor, or one shared parameter.

    Abstract: a subclass knows how the gradients are kept, written out or as factors.

    Attributes:
        branches: The m branches, as indices.
    """

    branches: tuple[int, ...]

    @abc.abstractmethod
    def gramian(self) -> Tensor:
        """`(m, m)` float32: the inner products of the gradients."""

    @abc.abstractmethod
    def squared_norms(self) -> Tensor:
        """`(m,)` float32: the diagonal of the Gramian."""

    @abc.abstractmethod
    def absolute_sums(self) -> Tensor:
        """`(m,)` float32: the sum of each gradient's absolute elements."""

    @abc.abstractmethod
    def size(self) -> Any:
        """How many elements a gradient has, float32."""

    @abc.abstractmethod
    def finite(self) -> Mask:
        """`(m,)` bool: which gradients are."""

    @abc.abstractmethod
    def weighted_sum(self, weights: Tensor) -> Tensor:
        """The gradients times the `(m,)` weights, added up, float32."""

    @abc.abstractmethod
    def sums(self) -> tuple[Tensor, Tensor]:
        """The sum of the gradients, and that of their absolute elements, float32."""

    @abc.abstractmethod
    def gradient(self, branch: int) -> Tensor:
        """The gradient of one of `branches`, of the tensor's shape."""

    @abc.abstractmethod
    def only(self, which: Tensor) -> Site:
        """The same with the gradients of the other branches 0.

        Args:
            which: `(m,)` bool.
        """
