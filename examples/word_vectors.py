"""Word vectors by GloVe and by a simpler GloVe, from half a million words.

From half a million words PPMI + SVD agrees best with people's judgement (0.59 on
WordSim353); GloVe needs drawn pairs, 0.46 instead of 0.09, and its simpler form is no
worse.

GloVe has two vectors and two biases for a word; the simpler form one vector, no bias.
Each is learned from the pairs that occur, as published; and with as many drawn pairs,
those that never occur counted as often as chance would have it, all of equal weight.
PPMI + SVD needs no learning. Needs gensim (with its test data), scipy and matplotlib.

    python examples/word_vectors.py
"""

import argparse
import bz2
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from gensim.corpora.wikicorpus import extract_pages, filter_wiki
from gensim.models import KeyedVectors
from gensim.test.utils import datapath
from gensim.utils import simple_preprocess
from keras import layers
from matplotlib.figure import Figure
from scipy.sparse import csr_array, triu
from scipy.sparse.linalg import svds

import lossweigh as lw

CORPUS = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
TESTS = {"WordSim353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
SETTINGS = {"min-count": 5, "window": 10, "dimension": 100, "epochs": 4, "seed": 0}


def read_articles(short):
    with bz2.open(datapath(CORPUS)) as file:
        pages = [filter_wiki(text) for _, text, _ in extract_pages(file, ["0"])]
    articles = [simple_preprocess(page, min_len=1) for page in pages]  # or redirects
    return [words for words in articles if len(words) >= 50][: 8 if short else None]


def count_pairs(articles, min_count, window):
    """The words, and how often two of them are together: 1 / d if d <= window apart."""
    text = np.concatenate(articles)
    article = np.repeat(np.arange(len(articles)), [len(words) for words in articles])
    _, which, occurs = np.unique(text, return_inverse=True, return_counts=True)
    often = occurs[which] >= min_count  # as in GloVe, rare words aren't in between
    words, text = np.unique(text[often], return_inverse=True)
    counts, article = csr_array((len(words), len(words))), article[often]
    for d in range(1, window + 1):
        same = article[d:] == article[:-d]
        found = np.full(same.sum(), 1 / d), (text[:-d][same], text[d:][same])
        counts += csr_array(found, shape=counts.shape)
    if not counts.nnz:
        raise ValueError(
            "The co-occurrence matrix must not be empty: lower `--min-count`, or raise "
            f"`--window`. Received: {min_count=} and {window=}, for {len(words)} words."
        )
    return words.tolist(), (counts + counts.T).tocsr()


def draw_epoch(counts, simpler, drawn):
    """Each pair that occurs, and if `drawn` as many at random, as `fit` takes them."""
    once, sums = triu(counts).tocoo(), counts.sum(axis=1)
    pairs, count, often = np.array(once.coords), once.data, sums**0.75
    if drawn:
        some = np.random.choice(len(sums), pairs.shape, p=often / often.sum())
        known, chance = counts[some[0], some[1]], sums[some].prod(axis=0) / sums.sum()
        pairs = np.concatenate([pairs, some], axis=1)
        count = np.concatenate([count, np.where(known > 0, known, chance)])
    pairs = np.where(np.random.rand(len(count)) < 0.5, pairs, pairs[::-1])
    y = np.stack([count, *sums[pairs]], axis=1) if simpler else count
    return {"word": pairs[0], "context": pairs[1]}, {"score": y}


def build_models(simpler, *shape):
    """The model that scores two words, and one of its layers: word to vectors' sum."""
    word = keras.Input((), dtype="int32", name="word")
    context = keras.Input((), dtype="int32", name="context")
    vectors = layers.Embedding(*shape, name="vectors")
    contexts = vectors if simpler else layers.Embedding(*shape, name="contexts")
    terms = [layers.Dot(1)([vectors(word), contexts(context)])]
    if not simpler:
        b, c = (layers.Embedding(shape[0], 1, "zeros", name=name) for name in "bc")
        terms += [b(word), c(context)]
    scorer = keras.Model([word, context], layers.Add(name="score")(terms))
    return scorer, keras.Model(word, layers.Add()([vectors(word), contexts(word)]))


def train(counts, simpler, drawn, options):
    keras.utils.set_random_seed(options.seed)
    scorer, encoder = build_models(simpler, counts.shape[0], options.dimension)
    loss = lw.losses.GloVe(max_count=10, exponent=0.0 if drawn else 0.75)
    if simpler:
        loss = lw.losses.PointwiseMutualInformation(counts.sum())
    training = lw.build_training_model(scorer, {"score": loss}, lw.FixedWeights())
    training.compile(keras.optimizers.Adam(0.005))
    for _ in range(1 if options.short else options.epochs):
        training.fit(*draw_epoch(counts, simpler, drawn), batch_size=8192)
    return encoder.predict(np.arange(counts.shape[0]), verbose=0)


def factorize(counts, dimension):
    (rows, columns), sums = counts.tocoo().coords, counts.sum(axis=1)
    found = np.log(counts.data * sums.sum() / sums[rows] / sums[columns]).clip(0)
    positive = csr_array((found, (rows, columns)), shape=counts.shape)
    left, values, _ = svds(positive, dimension, v0=sums)
    return left * np.sqrt(values)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in SETTINGS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--short", action="store_true", help="8 articles, one epoch")
    parser.add_argument("--out", type=Path, default=Path("word_vectors"))
    options = parser.parse_args(arguments)
    articles = read_articles(options.short)
    words, counts = count_pairs(articles, options.min_count, options.window)
    vectors, scores = {"PPMI + SVD": factorize(counts, options.dimension)}, {}
    for drawn in ("", ", drawn pairs"):
        for form in ("GloVe", "simpler GloVe"):
            print(form + drawn)
            vectors[form + drawn] = train(counts, form != "GloVe", bool(drawn), options)
    for name in vectors:
        keyed = KeyedVectors(options.dimension)
        keyed.add_vectors(words, vectors[name])
        tests = [keyed.evaluate_word_pairs(datapath(file)) for file in TESTS.values()]
        scores[name] = [spearman.statistic for _, spearman, _ in tests]
        print(f"{name:<28}{scores[name][0]:.3f} {scores[name][1]:10.3f}")
    known = [round(353 - 3.53 * tests[0][2]), round(999 - 9.99 * tests[1][2])]
    print(f"Spearman, for {known[0]} pairs of WordSim353 and {known[1]} of SimLex-999")
    if {"france", "french", "germany"} <= set(words):
        near = keyed.most_similar(["french", "germany"], ["france"], topn=3)
        print("france to french is germany to:", *dict(near))
        print("near to france:", *dict(keyed.most_similar("france", topn=8)))
    options.out.mkdir(parents=True, exist_ok=True)
    keyed.save_word2vec_format(options.out / "vectors.txt")
    axes = (figure := Figure((8, 4), layout="constrained")).subplots()
    for test, values in zip(TESTS, zip(*scores.values(), strict=True), strict=True):
        axes.plot(values, list(scores), "o", ms=9, label=test)
    axes.set_xlabel("Spearman's rank correlation with people's judgement")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(options.out / "word_vectors.png", dpi=110)


if __name__ == "__main__":
    main()
