"""Two overlapping digits: the example runs, and its data is what it says."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import lossweigh as lw

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "balance_two_digits.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_pairs_are_the_two_digits_and_their_labels(example):
    digits = np.zeros((10, 28, 28))
    for label, digit in enumerate(digits):
        digit[:, 4:24] = (label + 1) / 40  # a brightness for each, which adds up
    random = np.random.default_rng(0)
    images, y = example["draw_pairs"](digits, np.arange(10), 50, random)
    assert images.shape == (50, 28, 42, 1)
    assert list(y) == ["left", "right"]
    np.testing.assert_allclose(images[:, 0, 4, 0], (y["left"] + 1) / 40, rtol=1e-6)
    both = (y["left"] + y["right"] + 2) / 40
    np.testing.assert_allclose(images.max((1, 2, 3)), both, rtol=1e-6)


@pytest.mark.parametrize(
    ("listed", "base", "others"),
    [
        ("BALANCERS", lw.Balancer, {"Balancer"}),
        ("WEIGHTERS", lw.Weighter, {"Weighter", "FixedWeights"}),
    ],
)
def test_every_method_is_in_the_table(example, listed, base, others):
    found = {
        name
        for name in lw.__all__
        if isinstance(getattr(lw, name), type) and issubclass(getattr(lw, name), base)
    }
    assert {*example[listed], *others} == found


def test_the_short_form(example, tmp_path, capsys):
    options = ["--short", "--balancers", "UPGrad", "GradDrop", "--level", "parameters"]
    options += ["--weighters", "Uncertainty"]
    results = example["main"]([*options, "--out", str(tmp_path)])
    assert list(results) == ["plain sum", "Uncertainty", "UPGrad", "GradDrop"]
    for accuracies in results.values():
        assert accuracies.shape == (1, 2)
        # Ten steps: chance is 0.1, and 0.13 is 4 standard deviations above it.
        assert (accuracies > 0.13).all()
    different = {tuple(accuracies.ravel()) for accuracies in results.values()}
    assert len(different) == len(results)  # each method trained another network
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("UPGrad"))
    _, left, _, _, right, _, _, cost = row.split()
    np.testing.assert_allclose(
        [float(left), float(right)], results["UPGrad"][0], atol=1e-3
    )
    assert float(cost) > 0
    assert (tmp_path / "balance_two_digits.png").stat().st_size > 10_000
    table = (tmp_path / "balance_two_digits.md").read_text("utf-8").splitlines()
    assert sum(line.startswith(("| plain", "| `")) for line in table) == 4
    row = next(line for line in table if line.startswith("| `UPGrad`"))
    assert [cell.split()[0] for cell in row.strip("| ").split(" | ")[1:3]] == [
        left,
        right,
    ]
