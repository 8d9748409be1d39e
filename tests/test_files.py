"""A file is written whole or not at all, and what a kill left beside it goes."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from lossweigh import _files
from lossweigh._files import written_whole

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[1]
# A process that begins to write, says so, and waits for what is to happen.
WRITING = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.written_whole(sys.argv[2]) as path:
    path.write_text("half of it")
    print(path, flush=True)
    sys.stdin.read()
    path.write_text("all of it")
"""


def writing(path):
    """Another process that is writing the file; and where it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, _files.__file__, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, pathlib.Path(process.stdout.readline().strip())


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def write_half(path):
    with written_whole(path) as whole:
        whole.write_text("half")
        raise ZeroDivisionError


def test_the_old_file_stays_if_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    with written_whole(path) as whole:
        whole.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path, other = tmp_path / "file[1]", tmp_path / "file"
    path.write_text("old")
    process, whole = writing(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (path.read_text(), whole.read_text()) == ("old", "half of it")
    with written_whole(other) as another:
        another.write_text("another file")
    assert whole.exists()  # of a save to somewhere else
    with written_whole(path) as again:
        assert not whole.exists()
        again.write_text("new")
    assert files_in(tmp_path) == ["file", "file[1]"]
    assert path.read_text() == "new"


def test_a_living_process_keeps_what_it_writes(tmp_path):
    path = tmp_path / "file"
    process, whole = writing(path)
    with written_whole(path) as again:
        again.write_text("new")
    assert whole.read_text() == "half of it"
    assert path.read_text() == "new"
    process.communicate("go on")
    assert process.returncode == 0
    assert path.read_text() == "all of it"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_without_a_lock_is_of_a_killed_process(tmp_path):
    """It was killed before it could lock, and what it made is empty."""
    (tmp_path / ".saving-file-abc").mkdir()
    with written_whole(tmp_path / "file") as whole:
        whole.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("race", ["removed", "locked"])
def test_a_folder_that_another_process_takes_is_given_up(tmp_path, monkeypatch, race):
    """Another process takes the new folder for a leftover, before it is locked."""
    make, taken = _files.tempfile.mkdtemp, []

    def make_and_lose(**kwargs):
        folder = make(**kwargs)
        if not taken:
            taken.append(folder)
            if race == "removed":
                os.rmdir(folder)
            else:
                descriptor = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT)
                _files.fcntl.flock(descriptor, _files.fcntl.LOCK_EX)
                taken.append(descriptor)
        return folder

    monkeypatch.setattr(_files.tempfile, "mkdtemp", make_and_lose)
    with written_whole(tmp_path / "file") as whole:
        assert str(whole.parent) != taken[0]
        whole.write_text("new")
    for descriptor in taken[1:]:
        os.close(descriptor)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("locks", ["none", "refused"])
def test_without_locks_nothing_but_empty_folders_is_removed(
    tmp_path, monkeypatch, locks
):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if locks == "none":
        monkeypatch.setattr(_files, "fcntl", None)
    else:
        monkeypatch.setattr(_files.fcntl, "flock", refuse)
    leftover = tmp_path / ".saving-file-abc"
    leftover.mkdir()
    (leftover / "lock").touch()
    with written_whole(tmp_path / "file") as whole:
        whole.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    assert files_in(tmp_path) == ["file", "lock"]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """The order of the system's calls, each of which is made."""
    calls = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def record_replace(one, other):
        calls.append(("replace", os.stat(one).st_ino))
        replace(one, other)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    path = tmp_path / "file"
    with written_whole(path) as whole:
        whole.write_text("new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("fsync", file), ("replace", file), ("fsync", folder)]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    with written_whole(tmp_path / "link") as whole:
        whole.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "new"
