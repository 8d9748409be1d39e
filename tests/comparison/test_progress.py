"""The bar counts runs and says how long the rest will take."""

import time

import pytest

from lossweigh.comparison.progress import Progress

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("elapsed", "left"),
    [(10.0, "about 20 s left"), (600.0, "about 20 min left"), (6000.0, "about 3.3 h")],
)
def test_what_is_left(capsys, monkeypatch, elapsed, left):
    """Runs of an earlier call took no time of this one."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress(6, shown=True)
    progress.start(3)
    now[0] = elapsed
    progress.advance()
    lines = capsys.readouterr().err.split("\r")
    assert lines[1].startswith("[###############...............] 3 of 6 runs")
    assert lines[2].startswith("[####################..........] 4 of 6 runs")
    assert left in lines[2]
    progress.advance()
    progress.advance()
    progress.close()
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.rstrip(" \n") == f"[{'#' * 30}] 6 of 6 runs"
    assert last.endswith("\n")


def test_nothing_is_shown(capsys):
    progress = Progress(1, shown=False)
    progress.start(0)
    progress.advance()
    progress.close()
    assert capsys.readouterr().err == ""
