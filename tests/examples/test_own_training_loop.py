"""The loop of the example is `train_on_batch`, on each backend."""

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiled

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_training_loop.py"


def test_the_short_form(tmp_path, capsys):
    apart = runpy.run_path(str(EXAMPLE))["main"](["--short", "--out", str(tmp_path)])
    assert apart < 1e-5
    assert "differ by at most" in capsys.readouterr().out
    assert (tmp_path / "own_training_loop.png").stat().st_size > 10_000
