"""A model's file: written whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any


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
