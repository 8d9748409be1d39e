"""What `keras.ops` lacks: `Backend` lists it, and each backend has a file."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras


class Backend(Protocol):
    """What each file of this folder defines. mypy compares the two.

    Attributes:
        TENSORS_TAKE_ATTRIBUTES: Whether a tensor can carry an attribute, as the mask
            that Keras gives it.
        STATELESS: Whether a step is a function from the values of all variables to
            the next ones. `fit` then takes the values out of the variables before the
            first step, and puts them back after the last.
        FUSES_ELEMENTWISE: Whether operations on single elements cost next to nothing
            where their input is read anyway.
        SUMS_IN_COND: Whether a branch of a `cond` can sum over replicas.
    """

    TENSORS_TAKE_ATTRIBUTES: bool
    STATELESS: bool
    FUSES_ELEMENTWISE: bool
    SUMS_IN_COND: bool

    def custom_gradient(
        self, function: Callable[..., Any], tensors: Sequence[Any]
    ) -> Any:
        """A tuple of tensors, with a gradient that the function brings.

        `function(*tensors)` returns a tuple of outputs, and a function from their
        gradients to a tuple of the tensors' gradients. `keras.ops.custom_gradient`
        takes only one output on torch.
        """

    def vector_jacobian(
        self, function: Callable[..., Any], tensors: Sequence[Any]
    ) -> tuple[Any, Any, Callable[[Iterable[Sequence[Any]]], list[list[Any]]]]:
        """The outputs, the extras, and `pull_back`.

        `function(*tensors)` returns a tuple of outputs, and extras, which aren't
        differentiated. `pull_back` takes a list whose items hold one gradient for each
        output, or `None` for an output that none comes from: then it walks only what
        the others depend on. It returns a list whose items hold one gradient for each
        tensor. It may be called more than once.
        """

    def derivatives(
        self,
        function: Callable[..., Any],
        tensors: Sequence[Any],
        firsts: Mapping[int, Sequence[int]],
        seconds: Mapping[tuple[int, int], Sequence[int]],
    ) -> tuple[dict[tuple[int, ...], Any], Any]:
        """The outputs of a function of columns, and their derivatives, row by row.

        They can be differentiated again.

        Args:
            function: `function(*tensors)` returns a list of outputs, `(batch, 1)` as
                the tensors, and extras, which aren't differentiated. JAX may call it
                more than once.
            tensors: The columns to differentiate by.
            firsts: For an output, by their indices, the tensors of its first
                derivatives.
            seconds: For such a first derivative the tensors of its derivatives.

        Returns:
            The outputs by `(output,)`, and the derivatives by `(output, tensor)` and
            `(output, tensor, tensor)`, these among others; and the extras.
        """

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function of tensors, compiled when it is called.

        torch runs it as it is.
        """

    def has_numbers(self, tensor: Any) -> bool:
        """Whether a tensor isn't one of a step that is being traced."""

    def keeps_random_state(self) -> contextlib.AbstractContextManager[Any]:
        """Puts the backend's global random state back.

        On torch a `Dropout` without a seed draws from it. The other two have none.
        """

    def not_compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which torch's compiler doesn't compile.

        That compiler fails on a `vector_jacobian` inside of a `custom_gradient`. JAX
        and TensorFlow compile the function.
        """

    def ensure_shape(self, tensor: Any, shape: Sequence[int | None]) -> Any:
        """The same tensor.

        While TensorFlow traces a function, it may not know all sizes of a tensor. Then
        it compares them with the shape when the function runs.
        """

    def float32_product(self, a: Any, b: Any) -> Any:
        """`a @ b` of float32, with all its digits.

        Accelerators may multiply float32 in TF32, which has three digits. TensorFlow
        and JAX let them unless told otherwise.
        """

    def gramian(self, tensors: Sequence[Any]) -> Any:
        """`(n, n)` float32: the inner products of n tensors of one shape.

        A product of matrices needs its rows in one tensor, a copy of them all, so
        large ones are taken in pieces.
        """

    def thin_product(self, a: Any, b: Any) -> Any:
        """`a' b`, which has few columns; it isn't differentiated.

        On processors XLA and torch take up to a dozen times longer for `a' b` than for
        `b' a`. XLA turns one into the other unless it is kept from it.
        """

    def raise_unless(self, condition: Any, message: str) -> None:
        """Raises a `ValueError` with the message unless the scalar is true.

        In compiled code it raises the backend's own kind of error, when it runs.
        """

    def replicas(self) -> int:
        """How many replicas take the step that is under way, each on part of a batch.

        JAX's arrays are whole, so there it is 1. On torch it is the number of
        processes of the process group, and 1 in `alone`.
        """

    def replica_number(self) -> Any:
        """Which of the replicas this is, 0, 1, ..., an int or a scalar."""

    def sum_over_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """The sums of tensors over the replicas, the same on each to the bit.

        Every replica must call it, in the same order. It isn't differentiated.
        """

    def rows_of_all_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """The rows of the first replica, then those of the next one, and so on.

        Every replica must call it, with as many rows in each of the tensors. It isn't
        differentiated.
        """

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """What runs in it sums nothing over torch's processes.

        A step of Keras's trainer on torch, and a look at the gradients, may run in one
        process only. If it summed over the others, it would wait for them.
        """

    def scope_of(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        """Where a model's variables are made: the strategy's of TensorFlow."""

    def squared_norm(self, tensor: Any) -> Any:
        """The sum of the squares, in float32; it reads once and writes nothing."""

    def stack(self, tensors: Sequence[Any], axis: int = 0) -> Any:
        """`ops.stack`, of tensors of one dtype.

        On torch `ops.stack` takes twenty times as long. It also keeps its tensors until
        Python's garbage collector runs, in a circle of functions.
        """

    def uniform(
        self, shape: Sequence[Any], generator: keras.random.SeedGenerator
    ) -> Any:
        """float32 numbers between 0 and 1, as `keras.random.uniform` draws them.

        On processors JAX's generator needs four arrays of that size, so there large
        ones are drawn in pieces.
        """

    def unstack(self, vector: Any, size: int) -> Sequence[Any]:
        """The numbers of a vector of this size, one tensor each."""

    def weighted_sum(self, tensors: Sequence[Any], weights: Sequence[Any]) -> Any:
        """`sum_k w_k t_k` in float32; it isn't differentiated.

        torch doesn't fuse operations, so it adds in place.

        Args:
            tensors: Of one shape.
            weights: Scalar tensors.
        """


if TYPE_CHECKING:
    from lossweigh._backend import jax, tensorflow, torch

    _jax: Backend = jax
    _tensorflow: Backend = tensorflow
    _torch: Backend = torch

NAME: str = keras.backend.backend()
_current: Backend = importlib.import_module(f"{__name__}.{NAME}")

TENSORS_TAKE_ATTRIBUTES = _current.TENSORS_TAKE_ATTRIBUTES
STATELESS = _current.STATELESS
FUSES_ELEMENTWISE = _current.FUSES_ELEMENTWISE
SUMS_IN_COND = _current.SUMS_IN_COND
custom_gradient = _current.custom_gradient
vector_jacobian = _current.vector_jacobian
derivatives = _current.derivatives
compiled = _current.compiled
has_numbers = _current.has_numbers
keeps_random_state = _current.keeps_random_state
not_compiled = _current.not_compiled
ensure_shape = _current.ensure_shape
float32_product = _current.float32_product
gramian = _current.gramian
thin_product = _current.thin_product
raise_unless = _current.raise_unless
replicas = _current.replicas
replica_number = _current.replica_number
rows_of_all_replicas = _current.rows_of_all_replicas
sum_over_replicas = _current.sum_over_replicas
alone = _current.alone
scope_of = _current.scope_of
squared_norm = _current.squared_norm
stack = _current.stack
uniform = _current.uniform
unstack = _current.unstack
weighted_sum = _current.weighted_sum
