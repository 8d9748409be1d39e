"""Target replication on real speakers: the short form, and what it measures."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "speaker_sequences.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_the_data_and_the_baseline(example):
    train, test = example["load"]("train"), example["load"]("test")
    assert (len(train[0]), len(test[0])) == (270, 370)
    lengths = [len(sequence) for sequence in train[0] + test[0]]
    assert (min(lengths), max(lengths)) == (7, 29)
    np.testing.assert_allclose(
        example["logistic_regression"](train, test), 0.962, atol=2e-3
    )
    x = example["padded"](train[0], 0.0, 1.0)
    assert ((x != 0).any(axis=-1).sum(axis=1) == [len(s) for s in train[0]]).all()


def test_short(example, tmp_path, capsys):
    accuracies = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert set(accuracies) == {"last step alone", "target replication"}
    for name, (accuracy,) in accuracies.items():
        assert accuracy > 0.3  # three epochs, of nine speakers
        assert f"{name}" in printed
        assert f"{accuracy:.3f}" in printed
    assert (tmp_path / "speaker_sequences.png").stat().st_size > 10_000
