"""Rows of numbers in an HDF5 file, which stays readable if a process is killed."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from lossweigh._files import written_whole

INDEX = ("step", "epoch")  # the whole numbers that each row begins with
_ROWS = "batches"  # the name of the data set
_CHUNK = 1024  # rows
_ATTEMPTS = 5  # to read a file


def row_type(columns: Sequence[str]) -> np.dtype[Any]:
    """The type of a row: whole numbers `INDEX`, then a float32 for each column."""
    return np.dtype(
        [(name, "<i8") for name in INDEX] + [(name, "<f4") for name in columns]
    )


def begin(path: pathlib.Path, columns: Sequence[str], *, append: bool) -> None:
    """Makes a file that has no row yet, or those of the file before it.

    That file is written anew: HDF5 refuses to write to a file which a killed process
    was writing to.

    Args:
        path: Path of the file. Its folder is made.
        columns: The names of the columns after `INDEX`.
        append: Whether the rows of a file that is there are kept.

    Raises:
        ValueError: If they are to be kept and have other columns, or can't be read.
    """
    kind = row_type(columns)
    rows = np.empty(0, kind)
    if append and path.exists():
        before = read(path)
        if set(before.dtype.names or ()) != set(kind.names or ()):
            raise ValueError(
                "`append=True` needs a file with the columns of this training, "
                f"{list(columns)}. Received: filepath={str(path)!r}, with "
                f"{list((before.dtype.names or ())[len(INDEX) :])}. Give `filepath` "
                "another name, or log the same (`compile(log=...)`, the names of the "
                "branches)."
            )
        rows = before[list(kind.names or ())].astype(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_whole(path) as whole,
        h5py.File(whole, "w", libver="latest", locking=False) as file,
    ):
        file.create_dataset(
            _ROWS,
            data=rows,
            maxshape=(None,),
            chunks=(_CHUNK,),
            fillvalue=np.zeros((), kind),
        )


def append(path: pathlib.Path, rows: np.ndarray) -> None:
    """Adds rows to the end of a file, which is closed again.

    The file is opened in HDF5's mode for one writer and several readers (SWMR), in
    which it is written in such an order that it can be read at each moment. `h5py.File`
    enters that mode after it has opened a file, and a kill between the two would leave
    a file that can't be read.

    Args:
        path: Path of a file of `begin`.
        rows: `(n,)`, of the file's `row_type`.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    access.set_file_locking(False, True)
    mode = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    opened = h5py.h5f.open(os.fsencode(path), mode, fapl=access)
    with h5py.File(opened) as file:
        dataset = file[_ROWS]
        number = len(dataset)
        dataset.resize(number + len(rows), axis=0)
        dataset[number:] = rows


def read(path: str | os.PathLike[str], argument: str = "filepath") -> np.ndarray:
    """The rows of a file, also while it is written, and of one that a kill left.

    Args:
        path: Path of a file of `begin`.
        argument: How errors call the path.

    Returns:
        `(n,)`, of the file's `row_type`.

    Raises:
        ValueError: If there is no such file, or it is another kind of file.
    """
    received = f"Received: {argument}={str(path)!r}"
    expected = f"`{argument}` must be the path of a file that HDF5Logger wrote. "
    if not pathlib.Path(path).is_file():
        raise ValueError(f"{expected}{received}, where no file is.")
    for attempt in range(_ATTEMPTS):
        try:
            rows = _rows_of(path)
            break
        except (OSError, RuntimeError, ValueError) as error:
            if attempt == _ATTEMPTS - 1:
                raise ValueError(
                    f"{expected}{received}, which can't be read as HDF5. Is it "
                    f"damaged, or of another kind? What failed: {error}"
                ) from error
            time.sleep(0.01)  # it may just have been opened for writing
    if rows.ndim != 1 or (rows.dtype.names or ())[: len(INDEX)] != INDEX:
        raise ValueError(f"{expected}{received}, in which something else is.")
    # A kill may leave rows at the end that exist and aren't written. A step is above 0.
    return rows[rows["step"] > 0]


def _rows_of(path: str | os.PathLike[str]) -> Any:
    """The array of a file, `()` if there is none.

    Raises:
        OSError: If the file can't be read, or is opened for writing meanwhile.
        RuntimeError: Likewise.
        ValueError: If a part of it is missing.
    """
    # Only what is opened for writing, or was when the writer was killed, needs SWMR
    # mode: in it HDF5 would try for ever to read what is missing of a damaged file.
    with open(path, "rb") as file:
        # Signature, version, two sizes, flags, two addresses, and the file's size.
        head = file.read(36)
        size = file.seek(0, os.SEEK_END)
    swmr = head[:8] == b"\x89HDF\r\n\x1a\n" and head[8] == 3 and head[11] > 0
    if swmr and size < int.from_bytes(head[28:36], "little"):
        raise ValueError(f"the file has {size} bytes, and a part of it is missing")
    with h5py.File(path, libver="latest", swmr=swmr, locking=False) as file:
        dataset = file.get(_ROWS)
        return dataset[()] if isinstance(dataset, h5py.Dataset) else np.empty(())
