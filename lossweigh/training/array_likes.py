"""Lists, pandas objects and the like as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def as_array(name: str, value: Any) -> Any:
    """An array-like, such as a list, as an array.

    Raises:
        ValueError: If its rows differ in length.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be an array, whose rows have the same length. Received a "
            f"{type(value).__name__} that NumPy can't make one of ({error}). Pad the "
            "rows, and leave out what was padded by a mask or weights of 0."
        ) from None


def with_shape(name: str, value: Any) -> tuple[Any, tuple[Any, ...] | None]:
    """A target or weight as an array or tensor, dense, and its shape if it is known."""
    if not hasattr(value, "shape") or library(value) in ("pandas", "h5py"):
        value = as_array(name, value)
    elif library(value) == "scipy":
        value = value.toarray()  # Keras makes inputs dense
    return value, known_shape(value)


def known_shape(value: Any) -> tuple[Any, ...] | None:
    """The shape of an array or tensor, `None` for TensorFlow's unknown rank."""
    try:
        return tuple(value.shape)
    except ValueError:
        return None


def library(value: Any) -> str:
    """The library that a value's class is from."""
    return type(value).__module__.split(".")[0]


def by_column(value: Any) -> Any:
    """A pandas DataFrame as a dict of its columns; anything else as it is."""
    is_frame = library(value) == "pandas" and hasattr(value, "columns")
    return dict(value.items()) if is_frame else value


def is_stream(x: Any) -> bool:
    """Whether `x` yields batches by itself (`tf.data`, `PyDataset`, ...)."""
    return not (
        x is None
        or isinstance(x, (Mapping, list, tuple))
        or hasattr(x, "shape")
        or hasattr(x, "__array__")
    )
