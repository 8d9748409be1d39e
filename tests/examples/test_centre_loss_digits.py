"""Softmax and centre loss on digits: the short form, and its numbers by hand."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "centre_loss_digits.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_spreads_are_distances(example):
    labels = np.repeat(np.arange(10), 2)
    features = np.stack([10.0 * labels, np.tile([-1.0, 1.0], 10)], axis=1)
    within, apart = example["spreads"](features, labels)
    np.testing.assert_allclose([within, apart], [1.0, 10.0])


def test_short(example, tmp_path, capsys):
    rows = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert [row[0] for row in rows] == ["lambda = 0", "lambda = 0.01", "learned"]
    for name, accuracy, weight, within, _ in rows:
        assert name in printed
        assert f"{accuracy:.3f}" in printed
        assert f"{within:.2f}" in printed
        assert np.isfinite(weight)
    alone, small, learned = rows
    assert alone[2] == 0
    np.testing.assert_allclose(small[2], 0.01, rtol=1e-5)
    assert learned[3] < small[3] < alone[3]  # the more it weighs, the closer
    assert (tmp_path / "centre_loss_digits.png").stat().st_size > 10_000
