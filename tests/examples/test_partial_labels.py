"""Partly labelled meat: the example's short form runs and says what it found."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "partial_labels.py"


def test_the_short_form(tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLE))
    errors = example["main"](["--short", "--out", str(tmp_path)])
    assert errors.shape == (1, 4, 3)  # seeds, methods, targets
    _, y = example["load_meats"]()
    assert (errors > 0).all()
    # Even fifty steps do better than the mean would, where no label is missing.
    assert (errors[0, 3] < y.std(0)).all()
    lines = capsys.readouterr().out.splitlines()
    for method, expected in zip(example["METHODS"], errors[0], strict=True):
        row = next(line for line in lines if line.startswith(method))
        said = row.removeprefix(method).replace("± 0.00", "").split()
        np.testing.assert_allclose([float(s) for s in said], expected, atol=0.006)
    assert (tmp_path / "partial_labels.png").stat().st_size > 10_000
