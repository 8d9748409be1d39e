"""The VAE: its two losses by hand, and the short form."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from scipy import integrate

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "vae.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_kl_divergence_is_that_of_normal_distributions(example):
    """Against the integral of p log(p / q) on a fine grid, of each dimension."""
    mean = np.array([[0.0, 1.0], [-0.5, 2.0]], "float32")
    log_variance = np.array([[0.0, 0.5], [-1.0, 0.3]], "float32")
    z = np.linspace(-15, 15, 20001)
    expected = np.zeros(2)
    for (row, column), m in np.ndenumerate(mean):
        variance = np.exp(log_variance[row, column])
        p = np.exp(-((z - m) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        difference = -((z - m) ** 2) / (2 * variance) - np.log(variance) / 2 + z**2 / 2
        expected[row] += integrate.trapezoid(p * difference, z)
    given = ops.convert_to_tensor(mean), ops.convert_to_tensor(log_variance)
    said = ops.convert_to_numpy(example["kl"](*given))
    np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-6)
    # What is below the value is the value, and what is above it stays.
    low = ops.convert_to_numpy(example["kl_above"](*given))
    np.testing.assert_array_equal(low, [10.0, 10.0])
    high = ops.convert_to_numpy(example["kl_above"](20 * given[0], given[1]))
    moved = expected + (20**2 - 1) * (mean**2).sum(axis=1) / 2
    np.testing.assert_allclose(high, moved, rtol=1e-5)


def test_the_pixels_are_a_sum_of_cross_entropies(example):
    random = np.random.default_rng(0)
    image, decoded = random.uniform(0.1, 0.9, (2, 3, 784)).astype("float32")
    terms = image * np.log(decoded) + (1 - image) * np.log(1 - decoded)
    given = ops.convert_to_tensor(image), ops.convert_to_tensor(decoded)
    said = ops.convert_to_numpy(example["pixels"](*given))
    np.testing.assert_allclose(said, -terms.sum(axis=1), rtol=1e-4)


def test_the_short_form(example, tmp_path, capsys):
    table = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert list(table) == list(example["METHODS"])
    for name, (cost, distance, total, used) in table.items():
        assert f"{name:<16}{cost:>8.1f}{distance:>8.1f}" in printed
        np.testing.assert_allclose(total, cost + distance)
        assert 0 <= used <= example["CODE"]
    # What weighs nothing grows, and what has a limit stays near it.
    assert table["weight 0"][1] > 2 * table["weight 1"][1]
    assert table["under 10 nats"][1] < 15
    assert example["in_words"](table) in printed
    assert (tmp_path / "vae.png").stat().st_size > 10_000
