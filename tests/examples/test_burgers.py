"""Burgers' equation: the solution, the points, and that the example runs."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "burgers.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_solution_obeys_the_equation_and_its_conditions(example):
    exact, nu = example["exact"], example["NU"]
    random = np.random.default_rng(0)
    t, x = random.uniform(0.05, 0.25, 50), random.uniform(-0.9, 0.9, 50)
    step = 1e-4
    u_t = (exact(t + step, x) - exact(t - step, x)) / (2 * step)
    u_x = (exact(t, x + step) - exact(t, x - step)) / (2 * step)
    u_xx = (exact(t, x + step) - 2 * exact(t, x) + exact(t, x - step)) / step**2
    np.testing.assert_allclose(u_t + exact(t, x) * u_x, nu * u_xx, atol=1e-4)
    zeros = np.zeros(50)
    np.testing.assert_allclose(exact(zeros, x), -np.sin(np.pi * x), atol=1e-12)
    np.testing.assert_allclose(exact(t, zeros + 1), zeros, atol=1e-12)


def test_points_lie_where_their_branch_is(example):
    data = example["Points"](3, seed=0)
    points, y = data[0]
    again, _ = data[1]
    assert len(data) == 3
    assert {n: p.shape for n, p in points.items()} == {
        "initial": (1, 50, 2),
        "boundary": (1, 50, 2),
        "interior": (1, 2000, 2),
    }
    assert (points["initial"][..., 0] == 0).all()
    assert set(points["boundary"][..., 1].ravel()) == {-1.0, 1.0}
    for name, column, low, high in [
        ("initial", 1, -1, 1),
        ("boundary", 0, 0, 1),
        ("interior", 0, 0, 1),
        ("interior", 1, -1, 1),
    ]:
        values = np.sort(points[name][0, :, column])
        # A Latin hypercube: one in each of n slices.
        slices = np.floor((values - low) / (high - low) * len(values))
        np.testing.assert_array_equal(slices, np.arange(len(values)))
        assert not np.array_equal(values, np.sort(again[name][0, :, column]))
    expected = -np.sin(np.pi * points["initial"][..., 1:])
    np.testing.assert_allclose(y["start"], expected, atol=1e-6)


def test_the_short_form_runs(example, tmp_path, capsys):
    least = example["main"](["--short", "--out", str(tmp_path)])
    assert list(least) == ["equal weights", "ConFIG"]
    assert all(0.1 < error < 0.4 for error in least.values())
    assert (tmp_path / "burgers.png").stat().st_size > 10_000
    assert "ConFIG" in capsys.readouterr().out
