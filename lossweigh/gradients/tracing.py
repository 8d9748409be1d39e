"""A subclassed model as a functional one over the same layers."""

from __future__ import annotations

import inspect

import keras

from lossweigh import _compat
from lossweigh._structure import is_functional, symbolic_inputs


def functional(model: keras.Model) -> keras.Model:
    """The model itself if it is functional, else the graph that its `call` shows.

    Args:
        model: A prediction model that is built.

    Raises:
        ValueError: If `call` can't be traced, does something else in training than in
            inference, or doesn't show all weights.
    """
    if is_functional(model):
        return model
    takes_training = "training" in inspect.signature(model.call).parameters
    inputs = symbolic_inputs(model)
    try:
        traced = keras.Model(inputs, model.call(inputs), name=model.name)
        if takes_training:
            either = [
                _compat.calls_of(
                    keras.Model(inputs, model.call(inputs, training=training))
                )
                for training in (True, False)
            ]
    except Exception as error:
        reason = f"Its `call` can't be traced: {_compat.unworded(error)}"
        raise ValueError(_opaque(model, reason)) from None
    if takes_training and either[0] != either[1]:
        raise ValueError(
            _opaque(model, "Its `call` takes other steps in training than in inference")
        )
    shown = {id(variable) for variable in traced.weights}
    hidden = [v.path for v in model.weights if id(v) not in shown]
    if hidden:
        raise ValueError(_opaque(model, f"No layer of its `call` shows {hidden}"))
    return traced


def _opaque(model: keras.Model, reason: str) -> str:
    return (
        "The prediction model must show which layers the branches share, for a "
        f"balancer and for `inspect`, and {model.name!r} (a {type(model).__name__}) "
        f"doesn't show them as `keras.Model(x, {model.name}.call(x))`. "
        f"{reason.rstrip('.')}. Build it as a functional model, "
        "`keras.Model(inputs, outputs)`, whose layers may be subclassed."
    )
