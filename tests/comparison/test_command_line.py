"""`python -m lossweigh compare module:function`."""

import os
import subprocess
import sys
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


def test_a_command_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["comparison"])
    assert stopped.value.code == 2
    assert "invalid choice: 'comparison'" in capsys.readouterr().err
