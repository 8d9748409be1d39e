"""Correlation and squared error as two branches of one output: the short form."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "load_forecast_correlation.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_days_are_in_line(example):
    x, y, held_out = example["load"]()
    assert x.shape == (358, 48, 4)
    assert y.shape == (358, 48)
    np.testing.assert_array_equal(x[1:, :, 0], y[:-1])  # the day before
    np.testing.assert_array_equal(x[7:, :, 1], y[:-6][:-1])  # a week ago
    assert 0.2 < held_out.mean() < 0.3
    assert held_out.reshape(-1)[14:21].all()


def test_short(example, tmp_path, capsys):
    results = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert list(results) == ["squared error", "correlation", "both"]
    for ((rmse, r),) in results.values():
        assert f"{rmse:.3f}" in printed
        assert f"{r:.4f}" in printed
        assert r > 0.5
    # The correlation knows no level.
    assert results["correlation"][0][0] > 2 * results["squared error"][0][0]
    assert (tmp_path / "load_forecast_correlation.png").stat().st_size > 10_000
