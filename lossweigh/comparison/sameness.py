"""What tells a model, a loss, an optimizer or a function from another one.

A comparison that goes on in another process must get the same text there: neither
addresses, nor the numbers that Keras puts behind names, nor the order of a set.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lossweigh import _compat
from lossweigh.comparison.extras import need

LIBRARIES = ("keras", "lossweigh", "builtins")  # whose code has a version instead


def described(thing: Any) -> Any:
    """A value for `json`, another one for a thing that computes other numbers.

    A function has its code, with the code of the functions of its module that it calls,
    its defaults and what it closes over. What has a `get_config` has that, and the code
    of its class if a user wrote it. Of any other object it is the class and the plain
    attributes.

    Args:
        thing: A function, a Keras object, an array, or a plain value.
    """
    return _without_numbered_names(_described(thing, ()))


def described_model(model: keras.Model) -> Any:
    """`described` for a model: how its layers are connected, and each layer.

    Args:
        model: The prediction model.
    """
    return described([model, *_compat.layers_at_any_depth(model)])


def hashed(description: Any) -> str:
    """A short text in place of a long description."""
    text = json.dumps(description, sort_keys=True, default=_plain_repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def class_code(cls: type) -> Any:
    """The code of a class and its bases up to a library's; `None` of a library's."""
    return _class_code(cls, ()) or None


def _described(thing: Any, seen: tuple[Any, ...]) -> Any:
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if any(thing is one for one in seen):
        return type(thing).__name__
    seen = (*seen, thing)
    if isinstance(thing, Mapping):
        if thing.get("class_name") == "__lambda__":
            return "lambda"  # as bytes that aren't always the same; see `attributes`
        return {str(key): _described(value, seen) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_described(value, seen) for value in thing]
    if isinstance(thing, (set, frozenset)):
        return sorted(_plain_repr(value) for value in thing)
    if isinstance(thing, (np.ndarray, np.generic, bytes)):
        return str(need("joblib").hash(thing))
    if isinstance(thing, functools.partial):
        partial = [thing.func, thing.args, thing.keywords]
        return ["partial", *_described(partial, seen)]
    if isinstance(thing, types.MethodType):
        return ["method", *_described([thing.__func__, thing.__self__], seen)]
    if isinstance(thing, types.FunctionType):
        return _function(thing, seen)
    if isinstance(thing, type) or not hasattr(thing, "__dict__"):
        return getattr(thing, "__qualname__", type(thing).__qualname__)
    return _object(thing, seen)


def _function(function: types.FunctionType, seen: tuple[Any, ...]) -> Any:
    if _is_of_library(function):
        return function.__qualname__
    return {
        "function": function.__qualname__,
        "code": hashed(_code(function.__code__)),
        "defaults": _described(function.__defaults__, seen),
        "keywords": _described(function.__kwdefaults__, seen),
        "closure": [_described(_content(c), seen) for c in function.__closure__ or ()],
        "globals": dict(_globals(function, seen)),
    }


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that isn't bound yet
        return None


def _code(code: types.CodeType) -> list[Any]:
    """What the code computes, without its file and lines."""
    constants = [
        _code(one) if isinstance(one, types.CodeType) else _constant(one)
        for one in code.co_consts
    ]
    names = [*code.co_names, *code.co_varnames, *code.co_freevars]
    return [code.co_code.hex(), names, constants]


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):
        return repr(sorted(map(repr, value)))
    return repr(value)


def _globals(
    function: types.FunctionType, seen: tuple[Any, ...]
) -> Iterator[tuple[str, Any]]:
    """The functions, numbers and texts of its module that a function may use."""
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        is_near = getattr(value, "__module__", None) == function.__module__
        if isinstance(value, (bool, int, float, str, tuple)) or (
            isinstance(value, types.FunctionType) and is_near
        ):
            yield name, _described(value, seen)


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(one) for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*inner)


def _object(thing: Any, seen: tuple[Any, ...]) -> Any:
    content: dict[str, Any] = {"class": type(thing).__qualname__}
    code = _class_code(type(thing), seen)
    if code:
        content["code"] = code
    attributes = vars(thing)
    if hasattr(thing, "get_config"):
        try:
            content["config"] = _described(thing.get_config(), seen)
        except Exception:  # such as of a layer whose arguments Keras can't tell
            content["config"] = None
        # A function is only a name in a config, such as that of an activation.
        kinds: tuple[type, ...] = (types.FunctionType, keras.losses.Loss)
    else:
        kinds = (bool, int, float, str, tuple, list, dict, types.FunctionType)
    content["attributes"] = {
        name: _described(value, seen)
        for name, value in sorted(attributes.items())
        if isinstance(value, kinds) and not _is_of_library(value)
    }
    return content


def _class_code(cls: type, seen: tuple[Any, ...]) -> dict[str, Any]:
    written = itertools.takewhile(lambda base: not _is_of_library(base), cls.__mro__)
    return {
        f"{base.__qualname__}.{name}": _described(value, (*seen, cls))
        for base in written
        for name, value in sorted(vars(base).items())
        if isinstance(value, types.FunctionType)
    }


def _is_of_library(thing: Any) -> bool:
    module = getattr(thing, "__module__", None) or ""
    return isinstance(module, str) and module.split(".")[0] in LIBRARIES


def _without_numbered_names(content: Any) -> Any:
    """Each name becomes its place among the names: Keras counts on from model to model.

    Names say nothing of what is computed.
    """
    places: dict[str, str] = {}

    def find(value: Any) -> None:
        if isinstance(value, dict):
            name = value.get("name")
            if isinstance(name, str):
                places.setdefault(name, f"name {len(places)}")
            for one in value.values():
                find(one)
        elif isinstance(value, list):
            for one in value:
                find(one)

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replace(one) for key, one in value.items()}
        if isinstance(value, list):
            return [replace(one) for one in value]
        return places.get(value, value) if isinstance(value, str) else value

    find(content)
    return replace(content)


def _plain_repr(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
