"""The folder of a comparison: killed, gone on with, and never overwritten."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
from problems import QUICK, data, shared

import lossweigh as lw

pytestmark = pytest.mark.once
SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
import problems
import lossweigh as lw

def build():
    with open({calls!r}, "a") as file:
        file.write("called\\n")
    return problems.shared()

candidates = {{"fixed": [{{"a": 1.0, "b": 3.0}}]}}
given = {{**problems.QUICK, "folder": {folder!r}, "budget": {budget}}}
lw.compare(build, problems.data, candidates, **given)
"""


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def compared(folder, build=shared, **given):
    fixed = {"fixed": [{"a": 1.0, "b": 3.0}]}
    given = {**QUICK, "budget": 1, "folder": folder, **given}
    return lw.compare(build, data(), given.pop("candidates", fixed), **given)


class Counted:
    """`build`, which counts its calls and may be interrupted in one of them."""

    def __init__(self, interrupted=None):
        self.calls, self.interrupted = 0, interrupted

    def __call__(self):
        self.calls += 1
        if self.calls == self.interrupted:
            raise KeyboardInterrupt
        return shared()


def test_an_interrupted_comparison_goes_on(tmp_path):
    """A model is built in four runs and four tests, two seeds, and twice to look."""
    whole = compared(None, build=(straight := Counted()))
    assert straight.calls == 2 + 2 + 4 + 4
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path, build=Counted(interrupted=2 + 2 + 3))  # in the third run
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path, build=Counted(interrupted=4 + 2 + 3))  # in the third test
    assert len(list((tmp_path / "tests").glob("*.json"))) == 2
    resumed = compared(tmp_path, build=(rest := Counted()))
    assert rest.calls == 2 + 2
    for one, other in zip(whole.rows, resumed.rows, strict=True):
        assert one.branches == other.branches
    again = compared(tmp_path, build=(nothing := Counted()))
    assert nothing.calls == 2
    assert again.to_dict() == resumed.to_dict()


def test_a_killed_process_loses_the_run_that_it_was_in(tmp_path):
    folder, calls = tmp_path / "folder", tmp_path / "calls"
    names = {"here": str(Path(__file__).parent), "calls": str(calls)}
    budget = 12  # long enough to be killed in
    script = SCRIPT.format(**names, folder=str(folder), budget=budget)
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while len(list(folder.glob("runs/*.json"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*.json")}
    assert 2 <= len(kept) < 4
    counted = Counted()
    comparison = compared(folder, build=counted, budget=budget)
    assert counted.calls == 2 + 2 * (4 - len(kept)) + 4
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert all(row.is_finished for row in comparison.rows)


def test_what_failed_is_tried_again(tmp_path):
    folder, calls = tmp_path / "folder", tmp_path / "calls"

    def error(y_true, y_pred):
        if folder.exists() and not calls.exists():  # in the first run
            calls.touch()
            raise OSError("The disk is full.")
        return float(abs(y_true - y_pred).mean())

    given = {"metric": {"a": (error, "min")}, "seeds": 1}
    first = compared(folder, **given)
    assert first.rows[0].status == "failed"
    assert "OSError: The disk is full (" in first.rows[0].reason
    second = compared(folder, **given)
    assert [row.status for row in second.rows] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": 2}, "with another epochs"),
        ({"batch_size": 16}, "with another batch_size"),
        ({"metric": {"a": "mse"}}, "another metric"),
        ({"optimizer": "sgd"}, "another optimizer"),
        ({"build": lambda: shared(width=9)}, "another model"),
    ],
)
def test_the_folder_of_another_comparison(one_comparison, given, words):
    before = contents(one_comparison)
    with pytest.raises(ValueError, match=f"{words}.*Nothing in it was changed"):
        compared(one_comparison, **{"seeds": 1, **given})
    assert contents(one_comparison) == before


@pytest.fixture(scope="module")
def one_comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparisons") / "one"
    compared(folder, seeds=1)
    return folder


def test_other_data(one_comparison):
    before = contents(one_comparison)
    fixed = {"fixed": [{"a": 1.0, "b": 3.0}]}
    given = {**QUICK, "budget": 1, "seeds": 1, "folder": one_comparison}
    with pytest.raises(ValueError, match="another samples, another data"):
        lw.compare(shared, data(number=49), fixed, **given)
    assert contents(one_comparison) == before


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(ValueError, match=r"isn't empty and has no comparison\.json"):
        compared(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(ValueError, match="Received the file"):
        compared(tmp_path / "letter.txt")


def test_files_that_somebody_changed(tmp_path):
    compared(tmp_path, seeds=1)
    (run, *_) = sorted((tmp_path / "runs").glob("*.json"))
    whole = run.read_text()
    run.write_text(whole[:20])
    with pytest.raises(ValueError, match=f"isn't one of a comparison: .*{run.name}"):
        compared(tmp_path, seeds=1)
    run.write_text(whole)
    (test, *_) = sorted((tmp_path / "tests").iterdir())
    test.unlink()
    compared(tmp_path, build=(counted := Counted()), seeds=1)
    assert counted.calls == 2 + 1 + 1 + 1  # its weights are gone, so it trains again
    assert test.exists()
    run.unlink()
    assert all(row.is_finished for row in compared(tmp_path, seeds=1).rows)


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": 2},
        {"seeds": [1, 0]},
        {"candidates": {"fixed": [{"a": 1.0, "b": 3.0}], "DWA": lw.DWA()}},
        {"candidates": {"fixed": [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}]}},
        {"learning_rates": [1e-5, 0.01, 0.03]},
    ],
)
def test_a_comparison_is_extended(tmp_path, more):
    """What was run isn't run again, and the result is that of one comparison."""
    compared(tmp_path, seeds=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*.json")}
    given = {"seeds": 1, **more}
    extended = compared(tmp_path, **given)
    assert len(list(tmp_path.glob("runs/*.json"))) > len(before) == 2
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    whole = compared(None, **given)
    for one, other in zip(extended.rows, whole.rows, strict=True):
        assert one.branches == other.branches
        assert one.trials == other.trials


def test_weights_that_are_gone_are_trained_again(tmp_path):
    """A second seed may choose a setting of which the first was not tested."""
    given = {"learning_rates": [1e-5, 0.03], "seeds": 1}
    first = compared(tmp_path, **given)
    assert {row.learning_rate for row in first.rows} == {0.03}
    again = compared(tmp_path, **{**given, "learning_rates": [1e-5]})
    whole = compared(None, **{**given, "learning_rates": [1e-5]})
    for one, other in zip(again.rows, whole.rows, strict=True):
        assert one.learning_rate == 1e-5
        assert one.branches == other.branches


@pytest.mark.long
def test_processes_find_what_this_one_finds(tmp_path):
    alone, several = compared(None), compared(tmp_path, n_jobs=2)
    for one, other in zip(alone.rows, several.rows, strict=True):
        for branch, result in one.branches.items():
            values = other.branches[branch].values
            assert result.values == pytest.approx(values, rel=1e-5)


@pytest.mark.long
def test_a_cluster_of_dask_on_this_machine(tmp_path):
    distributed = importlib.import_module("distributed")
    alone = compared(None)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        several = compared(tmp_path)
    for one, other in zip(alone.rows, several.rows, strict=True):
        for branch, result in one.branches.items():
            values = other.branches[branch].values
            assert result.values == pytest.approx(values, rel=1e-5)
