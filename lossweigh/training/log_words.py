"""The words that say what a training model logs."""

from __future__ import annotations

from typing import Any

from lossweigh.training.relative_loss import RELATIVE_LOSS

WORDS = (
    "losses",
    "weights",
    "balance",
    "gradients",
    "unweighted_loss",
    RELATIVE_LOSS,
)
# What `fit` adds to an epoch's logs, by the word that stands for it.
OF_THE_EPOCH = {"weights": "weight", "balance": "balance", "gradients": "norm"}
# What is logged by default where the weights move.
OF_MOVING_WEIGHTS = {"weights", "unweighted_loss", RELATIVE_LOSS}


def checked_words(log: Any, *, balanced: bool) -> list[str] | None:
    """`compile`'s `log` as a list, or `None` for the default.

    Args:
        log: What was given: `None`, a word, or several.
        balanced: Whether there is a balancer.

    Raises:
        TypeError: If it isn't a list of words.
        ValueError: If it has an unknown word, or one of a balancer without one.
    """
    if log is None:
        return None
    if not isinstance(log, (str, list, tuple, set, frozenset)):
        raise TypeError(
            f"`log` must be a list of words, such as ['losses', 'weights'], or None. "
            f"Received: log={log!r} (of type {type(log).__name__})."
        )
    words = [log] if isinstance(log, str) else list(log)
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(
            f"`log` may only have the words {', '.join(map(repr, WORDS))}. "
            f"Received: log={log!r} (unknown: {', '.join(map(repr, unknown))})."
        )
    of_balancers = [word for word in words if word in ("balance", "gradients")]
    if of_balancers and not balanced:
        raise ValueError(
            f"`log` must not have {of_balancers[0]!r} for a model that has no "
            f"balancer. Received: log={log!r}. Leave the word out, or give one: "
            "`build_training_model(..., balancer=UPGrad())`. (The callback "
            "`GradientReport` logs gradients of any model.)"
        )
    return sorted(words)
