"""`HDF5Logger` writes what each step had, and what it wrote can be read."""

import json
import re

import fresh
import h5py
import keras
import numpy as np
import pandas
import pytest
from two_branches import VALIDATION, X, Y, fit, training_model

import lossweigh as lw
from lossweigh import _row_files
from lossweigh.callbacks import HDF5Logger

KILLED = """
import pathlib, sys
sys.path.insert(0, "tests/callbacks")
import killed_logs
"""
BRANCHES = ["a", "b"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "run.h5"


def columns(*quantities):
    return [f"{branch}_{quantity}" for quantity in quantities for branch in BRANCHES]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("weighter", "balancer", "quantities"),
    [
        (lw.LossWeighter, lambda: None, ["loss", "weight"]),
        (lw.FixedWeights, lambda: None, ["loss", "weight"]),
        (lw.FAMO, lw.UPGrad, ["loss", "weight", "balance"]),
    ],
)
def test_a_row_is_what_an_epoch_of_one_batch_logs(path, weighter, balancer, quantities):
    training = training_model(weighter=weighter(), balancer=balancer())
    logs = fit(training, HDF5Logger(path))
    table = HDF5Logger.read(path)
    assert list(table) == ["step", "epoch", *columns(*quantities)]
    np.testing.assert_array_equal(table["step"], [1, 2, 3, 4])
    np.testing.assert_array_equal(table["epoch"], [0, 1, 2, 3])
    assert table["step"].dtype == table["epoch"].dtype == "int64"
    for name in columns(*quantities):
        assert table[name].dtype == "float32"
        if name in logs:  # fixed weights aren't
            np.testing.assert_allclose(table[name], logs[name], rtol=1e-6)
    if weighter is lw.FixedWeights:
        np.testing.assert_array_equal(table["a_weight"], np.ones(4))
    else:
        assert len(set(table["a_weight"])) == 4


@pytest.mark.parametrize("flush_every", [1, 2, 3, 100])
def test_rows_of_batches_are_what_the_epoch_means(path, flush_every):
    """Also of the last batch, which is followed by a validation."""
    training = training_model(weighter=lw.LossWeighter())
    logger = HDF5Logger(path, flush_every=flush_every)
    logs = fit(training, logger, epochs=3, batch_size=6)
    table = HDF5Logger.read(path)
    np.testing.assert_array_equal(table["step"], np.arange(1, 10))
    np.testing.assert_array_equal(table["epoch"], np.repeat([0, 1, 2], 3))
    for name in columns("loss", "weight"):
        by_epoch = table[name].reshape(3, 3)
        assert len(set(table[name])) == 9
        means = np.average(by_epoch, axis=1, weights=[6, 6, 4])
        np.testing.assert_allclose(means, logs[name], rtol=1e-5)


def test_the_numbers_of_a_training_stay(path):
    expected = fit(training_model(weighter=lw.LossWeighter()), batch_size=6)
    logs = fit(
        training_model(weighter=lw.LossWeighter()), HDF5Logger(path), batch_size=6
    )
    assert logs.keys() == expected.keys()
    for name, values in logs.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)


@pytest.mark.compiled
def test_a_model_that_was_trained_before(path):
    """Its step was traced without rows. A second callback keeps more of them."""
    training = training_model(weighter=lw.LossWeighter())
    fit(training, batch_size=4, epochs=1)
    for times in (1, 2):
        loggers = [
            HDF5Logger(path.with_name("few.h5"), flush_every=2),
            HDF5Logger(path.with_name("many.h5"), flush_every=2 * times),
        ]
        logs = fit(training, *loggers, batch_size=4, epochs=1)
        few, many = (HDF5Logger.read(one.path) for one in loggers)
        np.testing.assert_array_equal(few["step"], 4 * times + np.arange(1, 5))
        assert few["b_loss"].mean() == pytest.approx(logs["b_loss"][0], rel=1e-5)
        for name, values in few.items():
            np.testing.assert_array_equal(values, many[name])


@pytest.mark.compiled
@pytest.mark.parametrize("flush_every", [1, 4])
def test_each_step_of_an_execution_has_a_row(path, flush_every):
    several = 1 if keras.backend.backend() == "torch" else 3  # Keras has but 1 there
    tables = []
    for at_once in (1, several):
        training = training_model(
            weighter=lw.LossWeighter(), steps_per_execution=at_once
        )
        fit(training, HDF5Logger(path, flush_every=flush_every), batch_size=2, epochs=2)
        tables.append(HDF5Logger.read(path))
    assert tables[0]["step"].tolist() == list(range(1, 17))
    for name, values in tables[0].items():
        np.testing.assert_allclose(tables[1][name], values, rtol=1e-5, err_msg=name)


def test_accumulated_batches_are_steps(path):
    """Of an update with the gradients of two batches each batch has a row."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    training = training_model(optimizer, weighter=lw.LossWeighter())
    for append in (False, True):
        logger = HDF5Logger(path, append=append)
        training.fit(
            X[:10],
            {n: y[:10] for n, y in Y.items()},
            batch_size=2,
            verbose=0,
            callbacks=[logger],
        )
    assert HDF5Logger.read(path)["step"].tolist() == [*range(1, 11)]


def test_steps_that_fit_does_not_know(path):
    """More than are kept: the last of them have rows."""
    training = training_model(weighter=lw.LossWeighter())

    class Extra(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for _ in range(3):
                self.model.train_on_batch(X[:2], {n: y[:2] for n, y in Y.items()})

    fit(training, HDF5Logger(path, flush_every=2), Extra(), batch_size=4, epochs=1)
    steps = HDF5Logger.read(path)["step"]
    assert (np.diff(steps) > 0).all()
    assert steps[-1] == int(training.optimizer.iterations)


def test_every_so_many_steps(path):
    training = training_model(weighter=lw.LossWeighter())
    both = HDF5Logger(path, every=3), HDF5Logger(path.with_name("all.h5"))
    fit(training, *both, batch_size=4, epochs=2)
    table, whole = (HDF5Logger.read(one.path) for one in both)
    np.testing.assert_array_equal(table["step"], [3, 6])
    for name, values in whole.items():
        np.testing.assert_array_equal(table[name], values[[2, 5]])


def test_a_batch_without_labels_has_no_loss(path):
    losses = {"a": lw.BranchLoss("mse", missing="nan"), "b": "mae"}
    x = keras.Input((3,))
    outputs = {name: keras.layers.Dense(1, name=name)(x) for name in BRANCHES}
    training = lw.build_training_model(keras.Model(x, outputs), losses)
    training.compile("sgd")
    y = {"a": np.array([[np.nan], [np.nan], [1.0], [np.nan]]), "b": X[:4, :1]}
    logger = HDF5Logger(path)
    training.fit(X[:4], y, batch_size=2, shuffle=False, verbose=0, callbacks=[logger])
    table = HDF5Logger.read(path)
    np.testing.assert_array_equal(np.isnan(table["a_loss"]), [True, False])
    assert np.isfinite(table["b_loss"]).all()


def test_gradients_are_logged_if_asked_for(path):
    training = training_model(balancer=lw.UPGrad(), log=["losses", "gradients"])
    logs = fit(training, HDF5Logger(path))
    table = HDF5Logger.read(path)
    names = [name for name in table if name.endswith("_at_representation")]
    assert len(names) == 3
    for name in names:
        # Nothing has been seen before the first step.
        np.testing.assert_allclose(table[name][1:], logs[name][1:], rtol=1e-6)
        assert np.isnan(table[name][0])


def test_the_model_is_looked_at_when_rows_are_written(path):
    """On JAX each look brings all variables back."""

    class Counted(HDF5Logger):
        looks = 0

        @property
        def model(self):
            self.looks += 1
            return super().model

    logger = Counted(path, flush_every=8)
    fit(training_model(weighter=lw.LossWeighter()), logger, batch_size=1, epochs=1)
    assert len(HDF5Logger.read(path)["step"]) == 16
    assert logger.looks == 4  # twice at the beginning, and for each 8 steps


def test_rows_are_in_the_file_during_an_epoch(path):
    seen = []

    class Rows(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(len(HDF5Logger.read(path)["step"]))

    logger = HDF5Logger(path, flush_every=3)
    training = training_model(weighter=lw.LossWeighter())
    fit(training, logger, Rows(), batch_size=2, epochs=1)
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert len(HDF5Logger.read(path)["step"]) == 8


def test_append(path):
    training = training_model(weighter=lw.LossWeighter())
    fit(training, HDF5Logger(path, append=True), epochs=2)
    first = HDF5Logger.read(path)
    fit(training, HDF5Logger(path, append=True), epochs=2)
    table = HDF5Logger.read(path)
    assert (table["step"].tolist(), table["epoch"].tolist()) == (
        [1, 2, 3, 4],
        [0, 1, 0, 1],
    )
    for name, values in first.items():
        np.testing.assert_array_equal(table[name][:2], values)
    fit(training, HDF5Logger(path), epochs=1)
    assert HDF5Logger.read(path)["step"].tolist() == [5]


def test_rows_with_other_columns_are_refused(path):
    fit(training_model(weighter=lw.LossWeighter()), HDF5Logger(path), epochs=1)
    before = path.read_bytes()
    other = training_model(balancer=lw.UPGrad())
    words = "`append=True` needs a file with the columns of this training, ['a_loss'"
    with pytest.raises(ValueError, match=re.escape(words)):
        fit(other, HDF5Logger(path, append=True))
    assert path.read_bytes() == before


@pytest.mark.once
def test_a_kill_loses_what_was_not_written(path):
    """It is read while the process lives, and after; another process goes on."""
    path.parent.mkdir()
    program = KILLED + "killed_logs.kill(pathlib.Path(sys.argv[1]), 9)"
    living, killed = json.loads(fresh.run(program, path))
    # The ninth step is the third one of an epoch, whose second was written before it.
    assert living == killed == [*range(1, 9)]
    fresh.run(KILLED + "killed_logs.train(pathlib.Path(sys.argv[1]))", path)
    table = HDF5Logger.read(path)
    assert table["step"].tolist() == [*range(1, 9), *range(7, 13)]
    assert table["epoch"].tolist() == [0] * 6 + [1] * 8
    frame = pandas.DataFrame(table).drop_duplicates("step", keep="last")
    assert frame["step"].tolist() == [*range(1, 13)]


@pytest.mark.once
@pytest.mark.parametrize("part", [200, 600, 0.5])
def test_a_part_of_a_file_that_is_written(tmp_path, part):
    """HDF5 would read for ever, or give some of the rows."""
    path = tmp_path / "run.h5"
    _row_files.begin(path, ["a_loss"], append=False)
    rows = np.ones(5000, _row_files.row_type(["a_loss"]))
    _row_files.append(path, rows)
    with h5py.File(path, "r+", libver="latest", locking=False) as file:
        file.swmr_mode = True
        whole = path.read_bytes()  # as a kill leaves it
    path.write_bytes(whole)
    assert len(_row_files.read(path)) == 5000
    path.write_bytes(whole[: int(part if part > 1 else part * len(whole))])
    with pytest.raises(ValueError, match="a part of it is missing"):
        _row_files.read(path)


@pytest.mark.once
def test_kills_while_it_is_written(tmp_path):
    program = KILLED + "killed_logs.write(pathlib.Path(sys.argv[1]), 25)"
    assert int(fresh.run(program, tmp_path / "run.h5")) > 5


@pytest.mark.long
@pytest.mark.once
def test_a_million_rows(path):
    names = [f"branch_{index}_loss" for index in range(6)]
    _row_files.begin(path, names, append=False)
    rows = np.ones(100, _row_files.row_type(names))
    for first in range(1, 10**6, 100):
        rows["step"] = np.arange(first, first + 100)
        rows[names[-1]] = rows["step"] % 1000
        _row_files.append(path, rows)
    table = HDF5Logger.read(path)
    np.testing.assert_array_equal(table["step"], np.arange(1, 10**6 + 1))
    np.testing.assert_array_equal(table[names[-1]], table["step"] % 1000)
    assert path.stat().st_size < 41e6  # 40 bytes a row


def test_bad_arguments(path):
    for name in ("every", "flush_every"):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            HDF5Logger(path, **{name: 0})
    native = training_model().prediction_model
    native.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="that `build_training_model` made"):
        native.fit(X, Y, verbose=0, callbacks=[HDF5Logger(path)])
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.h5", "nowhere.h5', where no file is"),
        (".", "where no file is"),
        ("empty.h5", "which can't be read as HDF5. Is it damaged"),
        ("text.csv", "which can't be read as HDF5"),
        ("cut.h5", "which can't be read as HDF5"),
        ("other.h5", "in which something else is"),
        ("group.h5", "in which something else is"),
        ("run.weights.h5", "in which something else is"),
    ],
)
def test_what_is_no_log(tmp_path, name, words):
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.csv").write_text("epoch,a_loss\n0,1.0\n")
    training = training_model()
    fit(training, HDF5Logger(tmp_path / "log.h5"), epochs=1)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "log.h5").read_bytes()[:300])
    training.save_weights(tmp_path / "run.weights.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["batches"] = np.ones((3, 4))
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("batches")
    for read in (
        HDF5Logger.read,
        lambda path: fit(training, HDF5Logger(path, append=True)),
    ):
        if name != "nowhere.h5" or read is HDF5Logger.read:
            message = f"`filepath` must be the path of a file that.*{re.escape(words)}"
            with pytest.raises(ValueError, match=message):
                read(tmp_path / name)


def test_the_validation_of_the_tests_differs():
    """Or they couldn't see that a row is of the training."""
    assert not np.array_equal(VALIDATION[1]["a"], Y["a"][:8])
