"""Which sentence comes next? A ranking loss without a target, and two encoders.

A question is a sentence of Wikipedia, its right answer the sentence that follows, a
wrong answer another one: of 64 others that with the best score, drawn in each epoch.
Two encoders give vectors of length 1; a pair's score is their inner product, and the
loss is `max(0, margin + wrong - right)`, of two outputs and no target. The encoders are
what is kept: saved alone, loaded by Keras alone, and tried on paragraphs that they
haven't seen, against chance and against TF-IDF, which counts the words that a pair
shares. Needs gensim (with its test data), scikit-learn and matplotlib.

    python examples/answer_ranking.py
"""

import argparse
import bz2
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from gensim.corpora.wikicorpus import extract_pages, filter_wiki
from gensim.test.utils import datapath
from keras import layers
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import TfidfVectorizer

import lossweigh as lw

CORPUS = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
WORDS, SIZE, OTHERS = (
    40,
    256,
    64,
)  # of a sentence, of a vector, to choose a wrong one of


def read_paragraphs(num_pages):
    """Paragraphs of two or more sentences, of 5 to 60 words each."""
    with bz2.open(datapath(CORPUS)) as file:
        pages = [filter_wiki(text) for _, text, _ in extract_pages(file, ["0"])]
    lines = [line.strip() for page in pages[:num_pages] for line in page.split("\n")]
    found = [re.split(r"(?<=[.!?])\s+(?=[A-Z])", line) for line in lines]
    found = [
        [s for s in some if 5 <= len(re.findall(r"\w\w+", s)) < 60] for some in found
    ]
    return [sentences for sentences in found if len(sentences) > 1]


def as_rows(sentences, tfidf):
    """Numbers of words, (sentences, 40) from 1; 0 where there is no more word."""
    rows, known = np.zeros((len(sentences), WORDS), "int32"), tfidf.vocabulary_
    words, unknown = tfidf.build_analyzer(), len(tfidf.vocabulary_)
    for row, sentence in zip(rows, sentences, strict=True):
        numbers = [known.get(word, unknown) + 1 for word in words(sentence)][:WORDS]
        row[: len(numbers)] = numbers
    return rows


class Triplets(keras.utils.PyDataset):
    """Batches of a question, its answer and a wrong one."""

    def __init__(self, questions, answers, encoders, batch=256):
        super().__init__()
        self.rows, self.encoders, self.batch = (questions, answers), encoders, batch
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.wrong) // self.batch)

    def on_epoch_end(self):
        """Draws the wrong answers."""
        asked, told = vectors(self.encoders, *self.rows)
        self.order, self.wrong = (
            np.random.permutation(len(told)),
            np.zeros(len(told), int),
        )
        for some in np.array_split(self.order, max(len(told) // OTHERS, 1)):
            scores = asked[some] @ told[some].T
            np.fill_diagonal(scores, -np.inf)
            self.wrong[some] = some[scores.argmax(axis=1)]
        np.random.shuffle(self.order)

    def __getitem__(self, index):
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        questions, answers = self.rows
        return (
            {"q": questions[rows], "r": answers[rows], "w": answers[self.wrong[rows]]},
        )


def build(idf, dropout=0.3):
    """The model of the two scores, and the encoders, which share their words."""
    idf = np.concatenate([[0], idf, [0]])  # rare words say more, unknown ones nothing
    start = np.random.normal(size=(len(idf), SIZE)) / SIZE**0.5 * idf[:, None]
    start = keras.initializers.Constant(start)
    words = layers.Embedding(len(idf), SIZE, start, mask_zero=True)

    def encoder(name):
        x = keras.Input((WORDS,), dtype="int32")
        hidden = layers.Dropout(dropout, noise_shape=(None, WORDS, 1))(words(x))
        hidden = layers.GlobalAveragePooling1D()(hidden)
        return keras.Model(x, layers.UnitNormalization()(hidden), name=name)

    asked, told = encoder("questions"), encoder("answers")
    q, r, w = (keras.Input((WORDS,), dtype="int32", name=name) for name in "qrw")
    right = layers.Dot(1, name="right")([asked(q), told(r)])
    wrong = layers.Dot(1, name="wrong")([asked(q), told(w)])
    return keras.Model([q, r, w], {"right": right, "wrong": wrong}), (asked, told)


def vectors(encoders, *rows):
    pairs = zip(encoders, rows, strict=True)
    return [
        encoder.predict(some, batch_size=1024, verbose=0) for encoder, some in pairs
    ]


def hits(asked, told):
    """How often the right answer is the first, and in the first ten."""
    scores = np.nan_to_num(asked @ told.T, nan=-np.inf)
    right = np.diag(scores)[:, None]  # of equal scores half come before
    before = np.sum(scores > right, axis=1) + (np.sum(scores == right, axis=1) - 1) / 2
    return np.mean(before < 1), np.mean(before < 10)


def draw(path, curve, table):
    axes = (figure := Figure((7, 4.4), layout="constrained")).subplots()
    for place, (name, color) in enumerate({"at 1": "C0", "at 10": "C1"}.items()):
        epochs, other = np.arange(1, len(curve) + 1), table["TF-IDF"][place]
        axes.plot(epochs, np.array(curve)[:, place], "o-", color=color)
        axes.axhline(other, color=color, ls="--", lw=1)
        axes.text(1, other, f"TF-IDF, {name}", color=color, va="bottom")
    axes.set(xlabel="epoch", ylabel="hit rate of the encoders", ylim=(0, None))
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--short", action="store_true", help="30 articles, one epoch")
    parser.add_argument("--out", type=Path, default=Path("answer_ranking"))
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(options.seed)
    paragraphs = read_paragraphs(30 if options.short else None)
    out = np.random.rand(len(paragraphs)) < 0.1
    seen = [p for p, held in zip(paragraphs, out, strict=True) if not held]
    unseen = [p for p, held in zip(paragraphs, out, strict=True) if held]
    tfidf = TfidfVectorizer(min_df=2).fit([sentence for p in seen for sentence in p])
    pairs = [(p[i], p[i + 1]) for p in seen for i in range(len(p) - 1)]
    test = [(p[i], p[i + 1]) for p in unseen for i in range(0, len(p) - 1, 2)]
    rows = [as_rows(some, tfidf) for some in zip(*test, strict=True)]

    model, encoders = build(tfidf.idf_)
    rank = lw.TargetFreeLoss(
        lw.losses.PairwiseRanking(margin=0.3), of=["right", "wrong"]
    )
    training = lw.build_training_model(model, {"rank": rank}, lw.FixedWeights())
    training.compile(keras.optimizers.Adam(5e-3))
    data = Triplets(*(as_rows(s, tfidf) for s in zip(*pairs, strict=True)), encoders)
    curve = []
    for epoch in range(1 if options.short else options.epochs):
        training.fit(data, initial_epoch=epoch, epochs=epoch + 1, shuffle=False)
        curve.append(hits(*vectors(encoders, *rows)))

    options.out.mkdir(parents=True, exist_ok=True)
    paths = [options.out / f"{encoder.name}.keras" for encoder in encoders]
    for encoder, path in zip(encoders, paths, strict=True):
        encoder.save(path)
    alone = [keras.models.load_model(path) for path in paths]
    table = {"chance": (1 / len(test), min(10 / len(test), 1))}
    table["TF-IDF"] = hits(
        *(tfidf.transform(s).toarray() for s in zip(*test, strict=True))
    )
    table["two encoders"] = hits(*vectors(alone, *rows))
    print(f"{len(test):>5} held-out pairs    hit rate at 1     at 10")
    for name, (first, ten) in table.items():
        print(f"{name:<20}{first:>17.3f}{ten:>10.3f}")
    draw(options.out / "answer_ranking.png", curve, table)
    print("Written:", *paths, options.out / "answer_ranking.png")
    return table, curve


if __name__ == "__main__":
    main()
