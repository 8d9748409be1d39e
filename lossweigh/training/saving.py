"""A training model's file: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
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


def save_whole(
    save: Callable[..., None], filepath: Any, overwrite: bool, **kwargs: Any
) -> None:
    """Saves beside the file, and then puts it in its place.

    Args:
        save: `keras.Model.save` of a model.
        filepath: Path of a `.keras` file, or an address that Keras knows.
        overwrite: As in Keras.
        **kwargs: As in Keras.

    Raises:
        ValueError: If the file would be one that can't be loaded again.
    """
    if str(filepath).endswith((".h5", ".hdf5")):
        raise ValueError(
            "`filepath` must end in `.keras`: Keras can't load a model with layers "
            f"of a library from an HDF5 file. Received: filepath={filepath!r}. "
            'For the weights alone write `save_weights("name.weights.h5")`.'
        )
    path = pathlib.Path(filepath)
    elsewhere = "://" in str(filepath)  # on a file system that Keras knows
    if elsewhere or path.suffix != ".keras" or (path.exists() and not overwrite):
        save(filepath, overwrite=overwrite, **kwargs)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        whole = pathlib.Path(folder) / path.name
        save(whole, **kwargs)
        os.replace(whole, path)
