"""The published toy of uncertainty weighting: the learned sigmas are the noise."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "uncertainty_toy.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_least_squares_are_the_published_ones(example):
    truth = example["least_squares"](*example["draw_data"]())
    np.testing.assert_allclose(truth, [10.2819, 0.9492], atol=5e-5)


def test_learned_sigma_is_the_residual_rms(example, tmp_path, capsys):
    ratios, truth = example["main"](["--short", "--out", str(tmp_path)])
    assert ratios.shape == (1, 2)
    np.testing.assert_allclose(ratios, 1.0, atol=0.05)
    # What is printed is sigma itself, and the noise that least squares leaves.
    _, *cells = capsys.readouterr().out.splitlines()[1].split()
    sigma = np.array([float(cells[0]), float(cells[3])])
    np.testing.assert_allclose(sigma, truth, rtol=0.05)
    assert (tmp_path / "uncertainty_toy.png").stat().st_size > 10_000
