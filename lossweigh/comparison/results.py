"""The folder of a comparison: what has been run is there, and isn't run again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lossweigh.comparison.runs import FAILED, Run
from lossweigh.comparison.sameness import hashed

FORMAT = 1
SETTINGS = "comparison.json"


class Results:
    """What the runs of one comparison gave, a file each.

    A file is written whole or not at all. `runs/` has what was measured on validation
    data, and until the end the trained weights; `tests/` has what was measured on test
    data.

    Args:
        folder: An empty folder or one that doesn't exist yet; or one of the same
            comparison, perhaps with other candidates, learning rates or seeds.
        settings: All that the results of each run depend on, for `json`.

    Raises:
        ValueError: If the folder holds something else. Nothing in it was changed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        described = json.dumps({"format": FORMAT, **settings}, default=repr)
        wanted: dict[str, Any] = json.loads(described)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`folder` must be a folder. Received the file {folder}.")
        if folder.exists() and any(folder.iterdir()):
            _check_same(folder, wanted)
        else:
            for name in ("runs", "tests"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            _write(folder / SETTINGS, _as_bytes(wanted))

    def trained(self, run: Run) -> dict[str, Any] | None:
        """What `train` returned, without the weights; `None` if it is to be run.

        A run that failed is tried again: its cause may have gone.
        """
        outcome = _read(self._path("runs", run))
        return None if outcome is None or outcome["status"] == FAILED else outcome

    def keep_trained(self, run: Run, outcome: Mapping[str, Any]) -> None:
        """Writes what `train` returned."""
        path = self._path("runs", run)
        kept = {key: value for key, value in outcome.items() if key != "weights"}
        if "weights" in outcome:
            self._keep_weights(run, outcome["weights"])
        _write(path, _as_bytes({**_about(run), **kept}))

    def tested(self, run: Run) -> dict[str, Any] | None:
        """What `test` returned; `None` if it is to be run."""
        outcome = _read(self._path("tests", run))
        return None if outcome is None or outcome["status"] == FAILED else outcome

    def keep_tested(self, run: Run, outcome: Mapping[str, Any]) -> None:
        """Writes what `test` returned."""
        _write(self._path("tests", run), _as_bytes({**_about(run), **outcome}))

    def weights(self, run: Run) -> list[Any]:
        """The trained weights of a run that has some."""
        with np.load(self._path("runs", run, ".npz")) as arrays:
            return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]

    def has_weights(self, run: Run) -> bool:
        """Whether the trained weights of a run are still there."""
        return self._path("runs", run, ".npz").exists()

    def forget_weights(self) -> None:
        """Removes the trained weights, which take the most space."""
        for path in (self.folder / "runs").glob("*.npz"):
            path.unlink()

    def _keep_weights(self, run: Run, weights: list[Any]) -> None:
        path = self._path("runs", run, ".npz")
        with _whole(path) as file:
            np.savez(file, *weights)

    def _path(self, kind: str, run: Run, suffix: str = ".json") -> Path:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", run.candidate.name).strip("-").lower()
        about = _about(run)
        if run.setting.weights is None:
            about["class"] = run.candidate.describe()
        name = f"{plain[:40]}-{hashed(about)}"
        return self.folder / kind / f"{name}{suffix}"


@contextlib.contextmanager
def opened(folder: Any, settings: Mapping[str, Any]) -> Iterator[Results]:
    """The results in a folder, or in one that is removed in the end if it is `None`."""
    if folder is not None:
        yield Results(Path(folder), settings)
        return
    with tempfile.TemporaryDirectory(prefix="lossweigh-compare-") as temporary:
        yield Results(Path(temporary), settings)


def _about(run: Run) -> dict[str, Any]:
    return {
        "candidate": run.candidate.name,
        "learning_rate": run.setting.learning_rate,
        "weights": run.setting.weights,
        "seed": run.seed,
    }


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if not path.exists():
        raise ValueError(
            f"`folder` must be empty, new, or hold a comparison. Received {folder}, "
            f"which isn't empty and has no {SETTINGS}."
        )
    kept = _read(path) or {}
    keys = [*settings, *(key for key in kept if key not in settings)]
    different = [key for key in keys if kept.get(key) != settings.get(key)]
    if different:
        raise ValueError(
            f"`folder` must be empty, new, or hold this comparison. Received {folder}, "
            f"which holds one with another {', another '.join(different)}. Nothing in "
            "it was changed. Choose another folder, or remove it."
        )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(
            f"`folder` has a file that isn't one of a comparison: {path}. Remove it."
        )
    return content


def _as_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with _whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """A file that takes the place of `path` when it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
