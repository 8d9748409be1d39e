"""Answers to questions: the data, what is drawn, and that the example runs."""

import runpy
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "answer_ranking.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_pairs_are_neighbours(example):
    paragraphs = [["a", "b", "c", "d", "e"], [], ["f"], ["g", "h"]]
    questions, answers = example["pair"](paragraphs, 1)
    assert ("".join(questions), "".join(answers)) == ("abcdg", "bcdeh")
    questions, answers = example["pair"](paragraphs, 2)
    assert ("".join(questions), "".join(answers)) == ("acg", "bdh")


def test_words_are_numbers_and_unknown_ones_are_one(example):
    tfidf = example["TfidfVectorizer"]().fit(["the cat saw", "the dog"])
    rows = example["to_numbers"](["The dog, the bird", "cat " * 50], tfidf)
    words = dict(zip(tfidf.get_feature_names_out(), range(2, 9), strict=False))
    assert rows.shape == (2, 40)
    assert rows[0].tolist() == [words["the"], words["dog"], words["the"], 1] + [0] * 36
    assert rows[1].tolist() == [words["cat"]] * 40


def test_ranks_against_a_loop(example):
    random = np.random.default_rng(0)
    scores = random.integers(3, size=(20, 20))
    expected = [
        sum(s > row[i] for s in row) + (sum(s == row[i] for s in row) - 1) / 2
        for i, row in enumerate(scores)
    ]
    np.testing.assert_allclose(example["ranks"](scores), expected)


def test_a_wrong_answer_is_the_best_scored_one_of_another(example):
    random = np.random.default_rng(0)
    questions, answers = random.normal(size=(2, 30, 4))
    wrong = example["draw_wrong"](questions, answers)  # one group: all of them
    scores = questions @ answers.T
    for number, row in enumerate(scores):
        best = max(np.delete(row, number))
        assert wrong[number] != number
        np.testing.assert_allclose(row[wrong[number]], best)
    questions, answers = random.normal(size=(2, 200, 4))
    assert (example["draw_wrong"](questions, answers) != np.arange(200)).all()


def test_the_untrained_encoders_weigh_words_as_tfidf_does(example):
    idf = np.array([0.0, 0.0, 1.5, 2.5, 4.0])
    ask, answer, scorer = example["build_models"](idf, 3)
    (vectors,) = (w for w in ask.weights if w.shape == (5, 3))
    assert any(weight is vectors for weight in answer.weights)
    vectors = keras.ops.convert_to_numpy(vectors)
    rows = np.array([[2, 4, 1] + [0] * 37, [3, 0, 0] + [0] * 37], "int32")
    sums = np.array([1.5 * vectors[2] + 4 * vectors[4], 2.5 * vectors[3]])
    sums -= sums.mean(axis=1, keepdims=True)
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    for encoder in (ask, answer):
        encoded = encoder.predict(rows, verbose=0)
        np.testing.assert_allclose(encoded, expected, rtol=1e-2)
    x = {"question": rows, "right": rows, "wrong": rows[::-1]}
    right, wrong = scorer.predict(x, verbose=0)
    np.testing.assert_allclose(right[:, 0], 1.0, rtol=1e-2)
    np.testing.assert_allclose(wrong[:, 0], expected[0] @ expected[1], rtol=1e-2)


def test_the_short_form_and_the_encoders_alone(example, tmp_path, capsys):
    found = example["main"](["--short", "--out", str(tmp_path)])
    assert list(found) == ["random", "TF-IDF", "encoders, untrained", "encoders"]
    rates = {name: (rank < 10).mean() for name, rank in found.items()}
    assert rates["random"] < rates["encoders"]
    printed = capsys.readouterr().out
    rows = printed[printed.index("held-out pairs") :].splitlines()[1:5]
    for row, (name, rank) in zip(rows, found.items(), strict=True):
        assert row.startswith(name)
        shown = [float(number) for number in row[28:].split()]
        expected = [(rank < 1).mean(), (rank < 10).mean()]
        np.testing.assert_allclose(shown, expected, atol=1e-3)
    assert (tmp_path / "answer_ranking.png").stat().st_size > 10_000
    for encoder in ("question_encoder", "answer_encoder"):
        file = tmp_path / f"{encoder}.keras"
        with zipfile.ZipFile(file) as parts:
            assert b"lossweigh" not in parts.read("config.json")
        words = np.array([[2, 3, 4] + [0] * 37], "int32")
        vector = keras.saving.load_model(file).predict(words, verbose=0)
        assert vector.shape == (1, 256)
        np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-2)
