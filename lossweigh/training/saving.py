"""What a training model's file says of itself, and which files are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lossweigh._version import __version__

# The format of a training model's config: one more for each change after which an
# older file can't be read.
FORMAT = 1


def with_format(config: dict[str, Any]) -> dict[str, Any]:
    """A training model's config that says its format, and which version wrote it."""
    return {**config, "lossweigh_format": FORMAT, "lossweigh_version": __version__}


def check_format(config: Any) -> None:
    """Refuses the config of a model whose format this version doesn't read."""
    if not isinstance(config, dict) or "layers" not in config:
        return  # no config of a model
    number = config.get("lossweigh_format")
    if number == FORMAT:
        return
    if number is None:
        what = "without a format, written by no released version of lossweigh"
        cure = "To go on,"
    else:
        version = config.get("lossweigh_version", "another version")
        what = f"of format {number!r}, written by lossweigh {version}"
        cure = "Install the version that wrote it, or"
    raise ValueError(
        f"This is the config of a training model {what}. lossweigh {__version__} "
        f"reads the format {FORMAT}. {cure} build the "
        "training model anew and give `load_weights` this file; or load the "
        "prediction model, if you saved it."
    )


@contextlib.contextmanager
def in_words(config: Any) -> Iterator[None]:
    """Says that a training model's config is damaged, and what failed.

    One of another format is refused.

    Args:
        config: The config that is being read.
    """
    check_format(config)
    names = _layer_names(config)  # Keras empties the config while it reads it
    try:
        yield
    except Exception as error:
        raise ValueError(
            "This isn't the config of a training model from `build_training_model`: "
            f"{type(error).__name__}: {_in_short(error)} It has the layers {names}. "
            "Save the training model anew, or build it and load its weights alone."
        ) from error


@contextlib.contextmanager
def weights_in_words(filepath: Any) -> Iterator[None]:
    """Says that a file has other weights than a training model's, and what to call.

    Args:
        filepath: The file that is being read.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"`filepath` must be a file with the weights of a training model like this "
            f"one. Received: {str(filepath)!r}. If it has those of the prediction "
            "model, call `training.prediction_model.load_weights` with it. Keras says: "
            f"{error}"
        ) from error


def _layer_names(config: Any) -> list[str]:
    """The names of a config's layers.

    Raises:
        ValueError: If it has none, or something else in their stead.
    """
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list) or not all(isinstance(one, dict) for one in layers):
        raise ValueError(
            "The config of a training model must have `layers`, a list of dicts. "
            f"Received: {'layers=' if isinstance(config, dict) else ''}"
            f"{str(layers if isinstance(config, dict) else config)[:100]}."
        )
    return [str(layer.get("name", "?")) for layer in layers]


def _in_short(error: Exception) -> str:
    """An error's message; Keras's puts the whole config before what failed."""
    message = str(error)
    what, _, config = message.partition("\n\nconfig=")
    _, _, reason = config.rpartition("Exception encountered: ")
    kind = what.partition("'>")[0].rpartition(".")[2]
    return f"{kind}: {reason}" if reason else message
