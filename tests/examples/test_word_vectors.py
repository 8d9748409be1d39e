"""Word vectors: the counts, the two losses' models, and that the example runs."""

import collections
import runpy
from pathlib import Path

import numpy as np
import pytest
from keras import ops

import lossweigh as lw

pytestmark = [pytest.mark.compiled, pytest.mark.once]

EXAMPLE = Path(__file__).parents[2] / "examples" / "word_vectors.py"
TEXTS = ["the cat saw the dog and the dog ran", "a cat is a cat", "the dog saw a cat"]
ARTICLES = [text.split() for text in TEXTS]


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.mark.parametrize(("min_count", "window"), [(1, 1), (1, 4), (2, 3), (3, 20)])
def test_counts_are_those_of_a_loop_over_the_text(example, min_count, window):
    occurs = collections.Counter(word for words in ARTICLES for word in words)
    expected = collections.Counter()
    for words in ARTICLES:
        known = [word for word in words if occurs[word] >= min_count]
        for i, left in enumerate(known):
            for d, right in enumerate(known[i + 1 : i + 1 + window], start=1):
                expected[left, right] += 1 / d
                expected[right, left] += 1 / d
    words, counts = example["count_pairs"](ARTICLES, min_count, window)
    assert sorted(words) == sorted(w for w, n in occurs.items() if n >= min_count)
    table = [[expected[left, right] for right in words] for left in words]
    np.testing.assert_allclose(counts.toarray(), table, rtol=1e-12)


@pytest.mark.parametrize(("min_count", "window"), [(6, 10), (1, 0)])
def test_an_empty_matrix_is_refused(example, min_count, window):
    with pytest.raises(ValueError, match=r"must not be empty: lower `--min-count`"):
        example["count_pairs"](ARTICLES, min_count, window)


def test_nothing_is_written_for_an_empty_matrix(example, tmp_path):
    output = tmp_path / "output"
    options = ["--short", "--min-count", "1000000", "--out", str(output)]
    with pytest.raises(
        ValueError, match="min_count=1000000 and window=10, for 0 words"
    ):
        example["main"](options)
    assert not output.exists()


def test_an_epoch_is_each_pair_once_and_drawn_ones(example):
    _, counts = example["count_pairs"](ARTICLES, 1, 3)
    full, sums, total = counts.toarray(), counts.sum(axis=1), counts.sum()
    x, y = example["draw_epoch"](counts, simpler=True, drawn=False)
    pairs = [tuple(sorted(pair)) for pair in zip(x["word"], x["context"], strict=True)]
    upper = np.argwhere(np.triu(full)).tolist()
    assert sorted(pairs) == sorted(map(tuple, upper))
    expected = [
        [full[i, j], sums[i], sums[j]] for i, j in zip(*x.values(), strict=True)
    ]
    np.testing.assert_allclose(y["score"], expected)

    x, y = example["draw_epoch"](counts, simpler=False, drawn=True)
    assert len(y["score"]) == 2 * len(upper)
    i, j = x["word"], x["context"]
    chance = sums[i] * sums[j] / total
    np.testing.assert_allclose(y["score"], np.where(full[i, j] > 0, full[i, j], chance))


def losses_of(models, loss, x, y):
    training = lw.build_training_model(models[0], {"score": loss}, lw.FixedWeights())
    inputs = {**x, "score_target": y, "score_sample_weight": None}
    return ops.convert_to_numpy(training(inputs)["score_loss"])


def norms_and_cosines(encoder, number):
    vectors = ops.convert_to_numpy(encoder(ops.arange(number, dtype="int32")))
    norms = np.linalg.norm(vectors, axis=1)
    return norms, vectors @ vectors.T / np.outer(norms, norms)


def test_a_shift_is_absorbed_by_the_biases_of_glove_alone(example):
    """<v + a, u + a> = <v, u> + <v, a> + <a, u> + <a, a>, for a vector a."""
    words, counts = example["count_pairs"](ARTICLES, 1, 3)
    shape, a = (len(words), 4), np.array([0.5, -1.0, 2.0, 0.25], "float32")
    random, x_y = np.random.default_rng(0), {}
    for simpler in (False, True):
        x, y = example["draw_epoch"](counts, simpler=simpler, drawn=False)
        x = {name: value.astype("int32") for name, value in x.items()}
        x_y[simpler] = x, y["score"].astype("float32")

    glove = example["build_models"](False, *shape)
    table = {name: glove[0].get_layer(name) for name in ("vectors", "contexts", *"bc")}
    for layer in table.values():
        layer.embeddings.assign(random.normal(size=layer.embeddings.shape))
    v, u, b, c = (ops.convert_to_numpy(layer.embeddings) for layer in table.values())
    before = losses_of(glove, lw.losses.GloVe(max_count=2), *x_y[False])
    norms, cosines = norms_and_cosines(glove[1], len(words))
    shifted = [v + a, u + a, b - (v @ a)[:, None], c - (u @ a)[:, None] - a @ a]
    for layer, value in zip(table.values(), shifted, strict=True):
        layer.embeddings.assign(value)
    after = losses_of(glove, lw.losses.GloVe(max_count=2), *x_y[False])
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    norms_after, cosines_after = norms_and_cosines(glove[1], len(words))
    assert np.abs(norms_after - norms).max() > 0.5
    assert np.abs(cosines_after - cosines).max() > 0.5

    simpler = example["build_models"](True, *shape)
    embeddings = simpler[0].get_layer("vectors").embeddings
    assert [weight.path for weight in simpler[0].weights] == [embeddings.path]
    embeddings.assign(v)
    loss = lw.losses.PointwiseMutualInformation(counts.sum())
    before = losses_of(simpler, loss, *x_y[True])
    embeddings.assign(v + a)
    assert np.abs(losses_of(simpler, loss, *x_y[True]) - before).min() > 0.01


def test_the_short_form(example, tmp_path, capsys):
    example["main"](["--short", "--min-count", "20", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = printed[printed.index("PPMI + SVD") :].splitlines()
    names = ["PPMI + SVD", "GloVe", "simpler GloVe"]
    names += ["GloVe, drawn pairs", "simpler GloVe, drawn pairs"]
    for row, name in zip(rows, names, strict=False):
        assert row.startswith(name)
        assert all(-1 < float(score) < 1 for score in row[28:].split())
    assert (tmp_path / "word_vectors.png").stat().st_size > 10_000
    first, *vectors = (tmp_path / "vectors.txt").read_text("utf-8").splitlines()
    assert first == f"{len(vectors)} 100"
