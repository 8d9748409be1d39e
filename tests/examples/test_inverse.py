"""The inverse Helmholtz problem: its field, its coefficient, and that it runs."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from keras import ops

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "inverse.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_field_obeys_the_equation(example):
    field, step = example["field"], 1e-4
    points = np.random.default_rng(0).uniform(0.1, 0.9, (50, 2))
    laplacian = sum(
        field(points + step * d) - 2 * field(points) + field(points - step * d)
        for d in np.eye(2)
    )
    np.testing.assert_allclose(
        laplacian / step**2 + example["TRUE"] * field(points), 0.0, atol=1e-4
    )


def test_the_measurements_have_one_percent_of_noise(example):
    points, y = example["Points"](0)[0]
    clean = example["field"](points["sensors"][0])
    noise = y["measured"][0] - clean
    assert 0.008 < noise.std() / clean.std() < 0.012


def test_the_coefficient_is_positive_and_starts_where_told(example):
    coefficient = example["Coefficient"](20.0)
    doubled = ops.convert_to_numpy(coefficient(np.ones((2, 1), "float32")))
    np.testing.assert_allclose(doubled, [[20.0], [20.0]], rtol=1e-6)
    coefficient.weight.assign(-30.0)
    assert 0 < coefficient.value < 1e-10


def test_the_short_form_runs(example, tmp_path, capsys):
    found = example["main"](["--short", "--out", str(tmp_path)])
    assert all(np.isfinite(values).all() for values in found.values())
    assert found["ConFIG"] != found["equal weights"]
    assert (tmp_path / "inverse.png").stat().st_size > 10_000
    assert "The true coefficient is 49.35." in capsys.readouterr().out
