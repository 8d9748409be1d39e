"""Ranking without a target, and two encoders that stand alone: the short form."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "answer_ranking.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_hits_against_a_loop(example):
    rng = np.random.default_rng(0)
    asked, told = rng.integers(-2, 3, (2, 30, 2)).astype(float)
    first = ten = 0
    for question, right in zip(asked, told, strict=True):
        own = question @ right
        others = [question @ answer for answer in told]
        before = sum(o > own for o in others) + (sum(o == own for o in others) - 1) / 2
        first, ten = first + (before < 1), ten + (before < 10)
    np.testing.assert_allclose(example["hits"](asked, told), [first / 30, ten / 30])
    # What isn't a number isn't a hit.
    assert example["hits"](np.full((30, 2), np.nan), told)[0] == 0


def test_rows_of_words(example):
    tfidf = TfidfVectorizer().fit(["beta alpha", "alpha gamma"])
    rows = example["as_rows"](["gamma unknown alpha", "beta " * 50], tfidf)
    assert rows.shape == (2, 40)
    np.testing.assert_array_equal(rows[0, :4], [3, 4, 1, 0])
    assert (rows[1] == 2).all()


def test_short(example, tmp_path, capsys):
    table, curve = example["main"](["--short", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert len(curve) == 1
    for name, (first, ten) in table.items():
        assert f"{first:>17.3f}{ten:>10.3f}" in printed
        assert name in printed
        assert 0 <= first <= ten <= 1
    assert table["two encoders"][1] > table["chance"][1]
    for name in ("questions", "answers"):  # without the training model
        encoder = keras.models.load_model(tmp_path / f"{name}.keras")
        rows = np.zeros((2, 40), "int32")
        rows[:, 0] = [1, 2]
        lengths = np.linalg.norm(encoder.predict(rows, verbose=0), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    assert (tmp_path / "answer_ranking.png").stat().st_size > 10_000
