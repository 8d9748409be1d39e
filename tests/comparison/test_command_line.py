"""`python -m lossweigh compare module:function`."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from lossweigh.__main__ import main

pytestmark = pytest.mark.once
EXPERIMENT = """
import problems


def compared():
    return {
        "build": problems.shared,
        "data": problems.data(),
        "candidates": {"fixed": [{"a": 1.0, "b": 3.0}]},
        **problems.QUICK,
    }


def number():
    return 3


def misspelt():
    return {**compared(), "learning_rate": 3}


def incomplete():
    return {"build": problems.shared}


def wrong():
    return {**compared(), "metric": {"c": "mae"}}


def broken():
    return {**compared(), "seeds": int("five")}


def broken_build():
    def build():
        raise TypeError("The width is missing.")

    return {**compared(), "build": build}


def broken_metric():
    def error(y_true, y_pred):
        return float(y_true["size"])

    return {**compared(), "metric": {"a": (error, "min")}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "experiment.py").write_text(EXPERIMENT)
    return folder


def test_a_comparison_from_the_command_line(folder):
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    options = "--folder kept --seeds 1 --budget 1 --jobs 1 --html report.html"
    command = [sys.executable, "-m", "lossweigh", "compare", "experiment:compared"]
    run = subprocess.run(
        [*command, *options.split()],
        cwd=folder,
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",  # which begins sooner than the others
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "One seed tells nothing about noise" in run.stdout
    assert "mean change" in run.stdout
    assert len(list((folder / "kept" / "runs").iterdir())) == 2
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("experiment", "must be written as `module:function`"),
        ("no_such_module:compared", "There is no module 'no_such_module' in "),
        ("experiment:compare", "has no function 'compare'"),
        ("experiment:number", "must return a dict with the arguments"),
        ("experiment:misspelt", "Unknown: ['learning_rate']. Missing: []"),
        ("experiment:incomplete", "Missing: ['data', 'metric']"),
        ("experiment:wrong", "`metric` may only have the names ['a', 'b']"),
    ],
)
def test_what_is_wrong_is_said_in_words(folder, monkeypatch, capsys, name, words):
    monkeypatch.syspath_prepend(folder)
    assert main(["compare", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("lossweigh compare: ")
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "invalid literal for int"),
        ("broken_build", "The width is missing"),
        ("broken_metric", "IndexError"),
    ],
)
def test_an_error_of_the_user_shows_where_it_was_raised(
    folder, monkeypatch, name, words
):
    monkeypatch.syspath_prepend(folder)
    with pytest.raises((TypeError, ValueError), match=words) as raised:
        main(["compare", f"experiment:{name}"])
    error = raised.value.__cause__ or raised.value
    assert "experiment.py" in str(traceback.extract_tb(error.__traceback__))


def test_a_report_that_cannot_be_written(folder, monkeypatch, capsys):
    """It is said before the first run, which would take time."""
    monkeypatch.syspath_prepend(folder)
    command = ["compare", "experiment:compared", "--folder", str(folder / "unused")]
    assert main([*command, "--html", str(folder / "none" / "report.html")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*command, "--html", str(folder / "report.html")]) == 2
    assert "needs matplotlib" in capsys.readouterr().err
    assert not (folder / "unused").exists()


def test_a_command_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["comparison"])
    assert stopped.value.code == 2
    assert "invalid choice: 'comparison'" in capsys.readouterr().err
