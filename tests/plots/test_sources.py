"""The same picture comes from a History, a CSV, an HDF5 and a TensorBoard folder."""

import re
import sys

import keras
import numpy as np
import pytest
from lines import legend_of, lines_of, same_lines

import lossweigh as lw
from lossweigh import _row_files

pytestmark = pytest.mark.once

LOGS = {"a_loss": [1.0, 2.0]}
LOSSES = {"box": "mse", "label": "sparse_categorical_crossentropy"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The History of a training, and the folder that its callbacks wrote to."""
    folder = tmp_path_factory.mktemp("logs")
    x = keras.Input((4,))
    shared = keras.layers.Dense(6, activation="tanh")(x)
    outputs = {
        "box": keras.layers.Dense(3, name="box")(shared),
        "label": keras.layers.Dense(3, activation="softmax", name="label")(shared),
    }
    training = lw.build_training_model(
        keras.Model(x, outputs), LOSSES, lw.RevisedUncertainty(), lw.UPGrad()
    )
    training.compile("adam", metrics={"label": ["accuracy"]}, run_eagerly=True)
    random = np.random.default_rng(0)
    data = random.normal(size=(8, 4)).astype("float32")
    targets = {"box": data[:, :3], "label": random.integers(0, 3, 8)}
    history = training.fit(
        data,
        targets,
        validation_data=(data, targets),
        validation_freq=2,
        initial_epoch=1,
        epochs=13,
        verbose=0,
        callbacks=[
            keras.callbacks.CSVLogger(folder / "comma.csv"),
            keras.callbacks.CSVLogger(folder / "semicolon.csv", separator=";"),
            keras.callbacks.TensorBoard(folder / "board", write_graph=False),
        ],
    )
    return history, folder


def test_a_history_shows_what_fit_has_logged(trained):
    history, _ = trained
    figure = lw.plot_training(history)
    shown = lines_of(figure)
    assert list(shown) == ["loss", "weight", "balance", "accuracy"]
    assert list(legend_of(figure)) == ["box", "label", "training", "validation"]
    logs = history.history
    for branch in LOSSES:
        for quantity in ("loss", "weight", "balance"):
            epochs, values = shown[quantity][branch, "-"]
            np.testing.assert_array_equal(epochs, np.arange(2, 14))
            np.testing.assert_array_equal(values, logs[f"{branch}_{quantity}"])
        epochs, values = shown["loss"][branch, "--"]
        np.testing.assert_array_equal(epochs, [2, 4, 6, 8, 10, 12])
        np.testing.assert_array_equal(values, logs[f"val_{branch}_loss"])
    np.testing.assert_array_equal(
        shown["accuracy"]["label", "--"][1], logs["val_label_accuracy"]
    )


@pytest.mark.parametrize("name", ["comma.csv", "semicolon.csv", "board"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_files_show_the_same(trained, name, kind):
    history, folder = trained
    shown = lines_of(lw.plot_training(kind(folder / name)))
    expected = lines_of(lw.plot_training(history))
    same_lines(shown, expected)


@pytest.mark.parametrize(
    ("epochs", "number", "expected"),
    [
        (range(1, 6), 5, [1, 2, 3, 4, 5]),
        (range(1, 6), 2, [2, 4]),
        (range(1, 8), 2, [3, 6]),
        (range(1, 6), 3, [3, 4, 5]),  # no `validation_freq` gives three of five
        (range(11, 15), 2, [12, 14]),
    ],
)
def test_a_key_that_not_all_epochs_have(epochs, number, expected):
    history = keras.callbacks.History()
    history.epoch = [epoch - 1 for epoch in epochs]
    validated = [float(value) for value in range(number)]
    history.history = {"a_loss": [1.0] * len(epochs), "val_a_loss": validated}
    points = lines_of(lw.plot_training(history))["loss"]["a", "--"]
    np.testing.assert_array_equal(points, [expected, validated])


def test_the_dict_of_a_history_counts_from_1(trained):
    history, _ = trained
    one = lines_of(lw.plot_training(history.history))
    epochs, _ = one["loss"]["box", "-"]
    np.testing.assert_array_equal(epochs, np.arange(1, 13))


def test_what_is_no_number_is_left_out(tmp_path):
    logs = {"a_loss": [1.0, 2.0], "a_vector": [[1.0, 2.0], [3.0, 4.0]], "a_word": ["x"]}
    assert list(lines_of(lw.plot_training(logs))) == ["loss"]
    path = tmp_path / "logs.csv"
    path.write_text('epoch,a_loss,a_vector\n0,1.0,"[1, 2]"\n1,nan,"[3, 4]"\n')
    (title, lines), *rest = lines_of(lw.plot_training(path)).items()
    assert (title, rest) == ("loss", [])
    np.testing.assert_array_equal(lines["a", "-"], [[1, 2], [1.0, np.nan]])


def test_two_trainings_in_one_file_go_on(tmp_path):
    path = tmp_path / "logs.csv"
    path.write_text("epoch,a_loss\n0,4.0\n1,3.0\n0,2.0\n1,1.0\n")
    points = lines_of(lw.plot_training(path))["loss"]["a", "-"]
    np.testing.assert_array_equal(points, [[1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0]])


def written_rows(path, steps, **columns):
    """A file as `HDF5Logger` writes it."""
    rows = np.zeros(len(steps), _row_files.row_type(list(columns)))
    rows["step"] = steps
    for name, values in columns.items():
        rows[name] = values
    _row_files.begin(path, list(columns), append=False)
    _row_files.append(path, rows)


@pytest.mark.parametrize("name", ["run.h5", "run.log"])
def test_rows_of_batches_are_drawn_over_their_steps(tmp_path, name):
    path = tmp_path / name
    values = [4.0, np.nan, 2.0, 1.0]
    written_rows(path, [2, 4, 6, 8], a_loss=values, a_weight=[1.0, 1.0, 2.0, 2.0])
    figure = lw.plot_training(path)
    assert [axes.get_xlabel() for axes in figure.axes] == ["step", "step"]
    shown = lines_of(figure)
    assert list(shown) == ["loss", "weight"]
    np.testing.assert_array_equal(shown["loss"]["a", "-"], [[2, 4, 6, 8], values])
    assert lw.plot_training(LOGS).axes[0].get_xlabel() == "epoch"


def test_of_many_rows_several_are_one_point(tmp_path):
    number = 2500
    steps = np.arange(1, number + 1)
    losses = np.where(steps % 3 == 0, np.nan, steps)
    losses[300:303] = np.nan
    written_rows(tmp_path / "run.h5", steps, a_loss=losses)
    ends, means = lines_of(lw.plot_training(tmp_path / "run.h5"))["loss"]["a", "-"]
    np.testing.assert_array_equal(ends, [*range(3, number, 3), number])
    parts = [losses[first : first + 3] for first in range(0, number, 3)]
    expected = [
        np.mean(p[np.isfinite(p)]) if len(p) == 3 else p[0] for p in parts[:100]
    ]
    np.testing.assert_allclose(means[:100], expected)
    assert np.isnan(means[100])
    assert means[-1] == number


def test_rows_of_two_trainings_go_on(tmp_path):
    written_rows(tmp_path / "run.h5", [1, 2, 1, 2], a_loss=[4.0, 3.0, 2.0, 1.0])
    figure = lw.plot_training(tmp_path / "run.h5")
    assert figure.axes[0].get_xlabel() == "row"
    points = lines_of(figure)["loss"]["a", "-"]
    np.testing.assert_array_equal(points, [[1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0]])


def test_of_steps_that_were_trained_again_the_last_is_drawn(tmp_path):
    """As after a kill."""
    written_rows(
        tmp_path / "run.h5", [10, 20, 30, 20, 30, 40], a_loss=[6.0, 5, 4, 3, 2, 1]
    )
    figure = lw.plot_training(tmp_path / "run.h5")
    assert figure.axes[0].get_xlabel() == "step"
    points = lines_of(figure)["loss"]["a", "-"]
    np.testing.assert_array_equal(points, [[10, 20, 30, 40], [6.0, 3, 2, 1]])


def test_a_file_without_a_row(tmp_path):
    _row_files.begin(tmp_path / "run.h5", ["a_loss"], append=False)
    with pytest.raises(ValueError, match="the numbers of at least one step"):
        lw.plot_training(tmp_path / "run.h5")


@pytest.mark.parametrize(
    ("history", "error", "words"),
    [
        (None, TypeError, "must be what `fit` returns, its `.history`, the path"),
        ([1.0], TypeError, "history=[1.0] (of type list)"),
        ({}, ValueError, "at least one epoch. Received: history={}"),
        ({"a_loss": []}, ValueError, "at least one epoch"),
        ({"a_loss": 1.0}, ValueError, "at least one epoch"),
        (keras.callbacks.History(), ValueError, "Was `fit` called"),
        ({"loss": [1.0], "accuracy": [0.5]}, ValueError, "keys ['accuracy', 'loss']"),
        ({"a_loss": [np.nan]}, ValueError, "a finite number of at least one branch"),
        ("nowhere.csv", ValueError, "history='nowhere.csv', where nothing is"),
        ("words.csv", ValueError, "which begins with 'a text'"),
        ("bytes.csv", ValueError, "must be a file of `keras.callbacks.CSVLogger`"),
        ("header.csv", ValueError, "at least one epoch"),
        ("other.csv", ValueError, "Received the keys ['loss']"),
        (
            "empty.h5",
            ValueError,
            "`history` must be the path of a file that HDF5Logger",
        ),
        ("folder", ValueError, "with the folders `train` and `validation` in it"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, history, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.csv").write_text("a text")
    (tmp_path / "bytes.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.h5").touch()
    (tmp_path / "header.csv").write_text("epoch,a_loss\n")
    (tmp_path / "other.csv").write_text("epoch,loss\n0,1.0\n")
    (tmp_path / "folder" / "train").mkdir(parents=True)
    with pytest.raises(error, match=re.escape(words)):
        lw.plot_training(history)


def test_a_missing_tensorboard_is_named(monkeypatch, tmp_path):
    module = "tensorboard.backend.event_processing"
    monkeypatch.setitem(sys.modules, module, None)  # as if it weren't installed
    with pytest.raises(ValueError, match="Install it: `pip install tensorboard`"):
        lw.plot_training(tmp_path)
