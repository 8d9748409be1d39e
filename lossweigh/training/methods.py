"""The weighter and the balancer of a training model: defaults and refusals."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from lossweigh import balancing, weighting
from lossweigh.balancing.base import Balancer
from lossweigh.branches import Branch, goes_below_zero
from lossweigh.weighting.base import Weighter
from lossweigh.weighting.fixed_weights import FixedWeights


def as_weighter(weighter: Any, name: str) -> Weighter | None:
    """The argument `weighter` as a layer; numbers become `FixedWeights`.

    Args:
        weighter: What was given.
        name: The name of a layer that is made of numbers.

    Raises:
        TypeError: If it is something else, such as a class or a name.
    """
    if weighter is None or isinstance(weighter, Weighter):
        return weighter
    if isinstance(weighter, (list, tuple, Mapping)):
        return FixedWeights(weighter, name=name)
    raise TypeError(
        "`weighter` must be a lossweigh weighter, such as `LossWeighter()` or "
        f"`FixedWeights([1.0, 2.0])`. Received: weighter={weighter!r}."
        f"{_did_you_mean(weighter, weighting)}"
    )


def as_balancer(balancer: Any) -> Balancer | None:
    """The argument `balancer`, checked; errors as for `as_weighter`."""
    if balancer is None or isinstance(balancer, Balancer):
        return balancer
    raise TypeError(
        "`balancer` must be a lossweigh balancer, such as `UPGrad()` or `MGDA()`. "
        f"Received: balancer={balancer!r}.{_did_you_mean(balancer, balancing)}"
    )


def _did_you_mean(given: Any, methods: Any) -> str:
    """The method that was meant by a class or a name, as it must be written."""
    if isinstance(given, Balancer):
        return " This is a balancer: give it as `balancer=`."
    if isinstance(given, Weighter):
        return " This is a weighter: give it as `weighter=`."
    if isinstance(given, type):
        given = given.__name__
    if not isinstance(given, str):
        return ""
    names = {name.lower(): name for name in methods.__all__}
    plain = given.lower().replace("_", "").replace("-", "").replace(" ", "")
    close = difflib.get_close_matches(plain, names, 1)
    return f" Did you mean `{names[close[0]]}()`?" if close else ""


def warn_of_own_training(model: keras.Model) -> None:
    """Says what a model does in its own `fit` and a training model doesn't."""
    left_out = [
        f"`{name}`"
        for name in (
            "fit",
            "train_step",
            "test_step",
            "predict_step",
            "compute_loss",
            "compute_metrics",
        )
        if not _is_of_keras(model, name)
    ]
    if getattr(model, "preprocessor", None) is not None:
        left_out.append("the `preprocessor` (preprocess the data before `fit`)")
    if left_out:
        warnings.warn(
            f"The prediction model {model.name!r} (a {type(model).__name__}) has "
            "something in its own `fit` that is left out here: "
            f"{', '.join(left_out)}. Its layers are trained by the losses that you "
            "give; what else it needs must be a loss or a layer.",
            stacklevel=3,
        )


def _is_of_keras(model: keras.Model, name: str) -> bool:
    defined = next(cls for cls in type(model).__mro__ if name in vars(cls))
    return defined.__module__.split(".")[0] == "keras"


def weighter_for(
    layers: dict[str, Branch], weighter: Weighter | None, name: str
) -> Weighter:
    """The weighter that was given, or equal weights, with this name.

    Raises:
        ValueError: If it can't weigh these losses.
    """
    negative = [name for name, b in layers.items() if goes_below_zero(b.loss)]
    if weighter is None:
        return FixedWeights(name=name)
    if negative and weighter.needs_positive_losses:
        kind = type(weighter).__name__
        raise ValueError(
            f"`weighter` must take losses of any sign, such as `FixedWeights()` or "
            f"`LossWeighter()`: the loss of the branch {negative[0]!r} goes below 0 in "
            f"training. Received: a {kind}, which needs positive losses. Or add a "
            "constant to that loss in a function of your own."
        )
    return weighter


def check_fresh(weighter: Weighter | None) -> None:
    """Refuses a weighter that has learned something in another training model."""
    if weighter is not None and weighter.has_learned():
        kind = type(weighter).__name__
        raise ValueError(
            f"`weighter` must not have learned anything yet. Received: the {kind} of "
            f"another training model, {weighter.name!r}, whose weights have moved. "
            f"Make a new {kind} for each training model, or give `weighter.fresh()`, "
            "which has the same arguments."
        )


def check_no_lists(
    outputs: list[str],
    branches: list[str],
    weighter: Weighter | None,
    balancer: Balancer | None,
) -> None:
    """Refuses a list in an unclear order: two dicts have different ones."""
    for layer in (weighter, balancer):
        for name in () if layer is None else layer.per_branch:
            argument = name.removesuffix("_given")
            if isinstance(getattr(layer, name), (list, tuple)):
                raise ValueError(
                    f"`{argument}` of {type(layer).__name__} is a list in an "
                    f"unclear order: `losses` has the branches "
                    f"{branches}, the prediction model the outputs {outputs}. Give "
                    "`losses` in the order of the outputs, or a dict by branch name."
                )
