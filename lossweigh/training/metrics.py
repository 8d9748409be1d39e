"""Metrics of the predictions: what `compile` takes, and what a step hands to Keras."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lossweigh import _check, _compat
from lossweigh.training.names import target_name
from lossweigh.training.wiring import Wiring


def metrics_by_output(
    wiring: Wiring,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """`compile`'s `metrics` and `weighted_metrics`, each by the name of the output.

    Args:
        wiring: The training model's.
        inputs: The training model's inputs, KerasTensors by name.
        outputs: Likewise.
        given: What `compile` was given, by argument.

    Raises:
        ValueError: If a name isn't an output's, a list has another length, or a metric
            can't take the target.
    """
    in_order = [name for name in wiring.data.outputs if name in wiring.metric_branches]
    whole = [
        output
        for output, layer in wiring.metric_branches.items()
        if len(inputs[target_name(layer.target)].shape)
        < len(outputs[output].shape) - layer.is_sparse
    ]
    by_name = {}
    for argument, some in given.items():
        with_target = in_order if wiring.data.ordered else []
        by_name[argument] = _by_output(argument, some, with_target, wiring.data.outputs)
        _check_whole(argument, by_name[argument], whole)
    return by_name


def without_target(wiring: Wiring, metrics: Mapping[str, Any]) -> list[str]:
    """The outputs that have metrics, but no loss with a target.

    Args:
        wiring: The training model's.
        metrics: As `metrics_by_output` gives them.
    """
    return [
        output
        for output in wiring.data.outputs
        if any(output in (some or {}) for some in metrics.values())
        and output not in wiring.metric_branches
        and output not in wiring.data.targets
    ]


def _by_output(
    argument: str, given: Any, with_target: Sequence[str], outputs: Sequence[str]
) -> dict[str, list[Any]] | None:
    """Metrics by the name of their output, or `None` where there are none.

    A list holds the metrics of each output, or of each in `with_target`, in order; or
    of the only one in `with_target`, which is empty if the order isn't known.
    """
    if given is None or (isinstance(given, (list, tuple, Mapping)) and not given):
        return None
    if not isinstance(given, Mapping):
        if not isinstance(given, (list, tuple)):
            given = [given]
        nested = any(some is None or isinstance(some, (list, tuple)) for some in given)
        if len(with_target) == 1 and not nested:
            given = {with_target[0]: given}
        elif with_target and len(given) in (len(with_target), len(outputs)):
            names = with_target if len(given) == len(with_target) else outputs
            given = dict(zip(names, given, strict=True))
        else:
            raise ValueError(
                f"`{argument}` must be a dict by output name, as in "
                f"{{{(with_target or outputs)[0]!r}: ['mae']}}, or a list with the "
                f"metrics of each of the outputs {list(with_target)} in their "
                f"order, if the model has one. Received: {argument}={given!r}."
            )
    given = _check.by_name(given)
    unknown = [name for name in given if name not in outputs]
    if unknown:
        raise ValueError(
            f"`{argument}` may only have the names of outputs, {list(outputs)}. "
            f"Received the names {list(given)} (unknown: {unknown})."
        )
    named = {}
    for output, some in given.items():
        if some is not None:
            named[output] = list(some) if isinstance(some, (list, tuple)) else [some]
    return named


def _check_whole(
    argument: str, metrics: Mapping[str, list[Any]] | None, whole: Sequence[str]
) -> None:
    """Refuses Keras's metrics where an output's target is given once a sample."""
    for output in whole:
        for metric in (metrics or {}).get(output, []):
            if _is_of_keras(metric):
                shown = repr(metric) if isinstance(metric, str) else "..."
                raise ValueError(
                    f"`{argument}` of the output {output!r} must be metrics of your "
                    "own or `lossweigh.metrics.LastStep`: its target is given once a "
                    "sample, not for each element, and a metric of Keras would "
                    f"compare what doesn't belong together. Received: {metric!r}. For "
                    "the last real step of a sequence write "
                    f"`lossweigh.metrics.LastStep({shown})`."
                )


def _is_of_keras(metric: Any) -> bool:
    if isinstance(metric, str):
        return True
    metric = _compat.metric_function(metric)
    defined = metric if inspect.isroutine(metric) else type(metric)
    return str(defined.__module__).split(".")[0] == "keras"
