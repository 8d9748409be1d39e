"""A branch's arguments `of` and `mask`: its tensors, and which steps are real."""

from __future__ import annotations

from typing import Any


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
