"""Words for the types of arguments. A backend's tensors have no type in common."""

from __future__ import annotations

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the backend, or what Keras makes one of."""

Mask: TypeAlias = Any
"""A tensor of bools, true for what counts; often `None` where all of it does."""

Shape: TypeAlias = tuple[int | None, ...]
"""The sizes of a tensor's axes, the batch's first, `None` for one that isn't fixed."""

BranchName: TypeAlias = str
"""The name of a branch, a key of `losses`."""
