"""A benchmark that lacks its data says what it is, in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NEEDED = {
    "multi_target.py": ("enb.arff", "tsoumakas/mulan", "1060,  30, 14"),
    "balancers.py": ("cells", "Shenggan/BCCD_Dataset", "(339, 96, 128, 3) uint8"),
    "gramians.py": ("cells", "Shenggan/BCCD_Dataset", "(339, 4) float"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each prints where there is no data: all of them run side by side."""
    nowhere = tmp_path_factory.mktemp("empty") / "cells"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    running = {
        name: subprocess.Popen(
            [sys.executable, BENCHMARKS / name, "--short", "--data", nowhere],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in NEEDED
    }
    results = {name: process.communicate()[1] for name, process in running.items()}
    return {name: (running[name].returncode, text) for name, text in results.items()}


@pytest.mark.parametrize("name", NEEDED)
def test_it_names_the_file_its_source_and_its_shapes(said, name):
    code, text = said[name]
    assert code == 1
    assert "Traceback" not in text
    assert "Say where it is with --data" in text
    for words in NEEDED[name]:
        assert words in text
