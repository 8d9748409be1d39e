"""Arguments of a branch: what it is of, and which steps are real."""

from __future__ import annotations

from typing import Any


def names_of(of: Any) -> list[str] | None:
    """`of` as a list of names, `None` for the output of the branch's name."""
    if of is None:
        return None
    names = [of] if isinstance(of, str) else of
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError(
            "`of` must be the name of an output or input of the prediction model, or a "
            f"list of names. Received: of={of!r}."
        )
    return list(names)


def check_steps(mask: Any) -> str | bool | None:
    """`mask` as it was given, which is a name, `False` or `None`."""
    if mask is None or mask is False or isinstance(mask, str):
        return mask
    raise TypeError(
        "`mask` must be None (the mask that Keras carries), the name of an input or "
        "output of the prediction model that holds a mask (batch, time) or lengths "
        f"(batch,), or False (every step is real). Received: mask={mask!r}."
    )
