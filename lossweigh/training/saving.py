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
    try:
        yield
    except Exception as error:
        names = [
            layer.get("name", "?")
            for layer in (config.get("layers", ()) if isinstance(config, dict) else ())
            if isinstance(layer, dict)
        ]
        raise ValueError(
            "This isn't the config of a training model from `build_training_model`: "
            f"{type(error).__name__}: {error} It has the layers {names}. Save the "
            "training model anew, or build it and load its weights alone."
        ) from error
