"""What `repr` shows of a weighter."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import ops

_DIGITS = 4


def shown(weighter: Any) -> str:
    """The weights now in force, by name, and the arguments that aren't the defaults.

    It never fails: a weighter is shown in error messages too, and in a step that is
    being traced, where its weights aren't numbers.

    Args:
        weighter: A `Weighter`, in any state.
    """
    try:
        given = _arguments(weighter)
    except Exception:  # the config of a user's subclass may raise anything
        given = {}
    if getattr(weighter, "built", False):
        given.pop("weights", None)  # those that `FixedWeights` began with
        given = {"weights": _weights(weighter), **given}
    named = [f"{name}={text}" for name, text in given.items()]
    return f"{type(weighter).__name__}({', '.join(named)})"


def _weights(weighter: Any) -> str:
    try:
        values = ops.convert_to_numpy(weighter.loss_weights).tolist()
        values = [float(f"{value:.{_DIGITS}g}") for value in values]
        if weighter.branches is None:
            return repr(values)
        return repr(dict(zip(weighter.branches, values, strict=True)))
    except Exception:  # each backend has its kind of error for a tensor of a trace
        return "<not known in a traced step>"


def _arguments(weighter: Any) -> dict[str, str]:
    """The constructor's arguments that differ from its defaults, but Keras's."""
    defaults: dict[str, Any] = {}
    for kind in type(weighter).__mro__:
        if kind is keras.layers.Layer:
            break
        signature = inspect.signature(vars(kind).get("__init__", lambda: None))
        for name, argument in signature.parameters.items():
            if argument.default is not argument.empty:
                defaults.setdefault(name, argument.default)
    config = weighter.get_config()
    return {
        name: repr(config[name])
        for name, default in defaults.items()
        if name in config
        and name not in ("branches", "inferred_task_types")
        and config[name] != default
    }
