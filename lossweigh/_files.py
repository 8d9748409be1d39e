"""A model's file: written whole or not at all, and then on the disk."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"  # the name of the file that tells a living process from a killed one


def save_whole(
    save: Callable[..., None], filepath: Any, overwrite: bool, **kwargs: Any
) -> None:
    """Saves a model so that a file of this name is always a whole one.

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
    _save(save, filepath, overwrite, ".keras", **kwargs)


def save_weights_whole(
    save_weights: Callable[..., None], filepath: Any, overwrite: bool, **kwargs: Any
) -> None:
    """As `save_whole`, for `keras.Model.save_weights`.

    Weights in several files, which `max_shard_size` asks for, are written as Keras
    writes them.
    """
    suffix = ".weights.h5" if kwargs.get("max_shard_size") is None else None
    _save(save_weights, filepath, overwrite, suffix, **kwargs)


def _save(
    save: Callable[..., None],
    filepath: Any,
    overwrite: bool,
    suffix: str | None,
    **kwargs: Any,
) -> None:
    """Saves a file with this suffix whole, and leaves the rest to Keras."""
    path = pathlib.Path(filepath)
    elsewhere = "://" in str(filepath)  # on a file system that Keras knows
    asks = path.exists() and not overwrite
    known = suffix is not None and path.name.endswith(suffix)
    if elsewhere or asks or not known or not path.parent.is_dir():
        save(filepath, overwrite=overwrite, **kwargs)
        return
    with written_whole(path) as whole:
        save(whole, **kwargs)


@contextlib.contextmanager
def written_whole(filepath: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives the path to write to, and moves that file when it is on the disk.

    If the block fails, or the process is killed in it, the file that was there stays.
    The path is in a folder beside the file. A folder that a killed process left
    behind is removed.

    Args:
        filepath: Path of the file. Its folder exists.
    """
    path = pathlib.Path(os.path.realpath(filepath))  # a link stays a link
    with _locked_folder(path) as folder:
        whole = folder / path.name
        yield whole
        _sync(whole, os.O_RDWR)
        os.replace(whole, path)
    with contextlib.suppress(OSError):  # not all systems open a folder
        _sync(path.parent, os.O_RDONLY)


@contextlib.contextmanager
def _locked_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside a file, which nobody removes while this process lives."""
    remove_leftovers(path)
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
        try:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(_locked(folder, os.O_RDWR | os.O_CREAT))
                except (BlockingIOError, FileNotFoundError):
                    continue  # another process saw it before it was locked
                except OSError:
                    pass  # no locks on this file system: nobody removes it
                yield folder
                return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(path: pathlib.Path) -> str:
    """How the names of the folders begin in which a file is written."""
    return f".saving-{path.name[:100]}-"


def remove_leftovers(filepath: str | os.PathLike[str]) -> None:
    """Removes the folders that processes left beside a file when they were killed.

    Args:
        filepath: Path of the file, which needn't exist.
    """
    path = pathlib.Path(os.path.realpath(filepath))
    for folder in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
        with contextlib.suppress(OSError):
            folder.rmdir()  # killed before there was a lock
        if fcntl is not None:
            with contextlib.suppress(OSError), _locked(folder, os.O_RDWR):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: pathlib.Path, flags: int) -> Iterator[None]:
    """Locks a folder, where there are locks; they end with the process.

    Raises:
        OSError: If another process has the lock, the folder is gone, or the file
            system has no locks.
    """
    descriptor = os.open(folder / _LOCK, flags)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder / _LOCK)  # gone if it was removed in the meantime
        yield
    finally:
        os.close(descriptor)


def _sync(path: pathlib.Path, flags: int) -> None:
    """Waits until what was written is on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
