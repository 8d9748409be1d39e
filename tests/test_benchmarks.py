"""A benchmark that lacks its data says what it is, in words."""

import importlib.util
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
    "physicsnemo_sym.py": ("Sum_data.npz", "NVIDIA/physicsnemo-sym", "x_np (512, 3)"),
}
OPTIONS = dict.fromkeys(NEEDED, "--data") | {"physicsnemo_sym.py": "--checkout"}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each prints where there is no data: all of them run side by side."""
    nowhere = tmp_path_factory.mktemp("empty") / "cells"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    running = {
        name: subprocess.Popen(
            [sys.executable, BENCHMARKS / name, "--short", OPTIONS[name], nowhere],
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
    assert f"ay where it is with {OPTIONS[name]}" in text
    for words in NEEDED[name]:
        assert words in text


@pytest.fixture(scope="module")
def rule():
    spec = importlib.util.spec_from_file_location(
        "default_rule", BENCHMARKS / "default_rule.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def candidate(*branches, low=-1.0, high=1.0):
    """A candidate as `Comparison.to_json` writes it, by the changes of its branches."""
    mean = sum(branches) / len(branches)
    return {
        "status": "finished",
        "change": {"mean": mean, "low": low, "high": high},
        "branches": {
            f"b{k}": {"change": {"mean": one}} for k, one in enumerate(branches)
        },
    }


def results(**candidates):
    """Two data sets' results from `name=(candidate of one, candidate of the other)`."""
    equal = {"status": "finished", "change": None, "branches": {}}
    return {
        data: {
            "candidates": {"equal": equal, **{n: c[k] for n, c in candidates.items()}}
        }
        for k, data in enumerate(("one", "other"))
    }


GAIN = candidate(0.2, 0.1)
SURE_LOSS = candidate(-0.05, 0.01, low=-0.04, high=-0.001)
FAILED = {"status": "failed", "change": None, "branches": {}}


@pytest.mark.parametrize(
    ("candidates", "winner"),
    [
        ({"gains": (GAIN, GAIN)}, "gains"),
        ({"loses": (GAIN, SURE_LOSS)}, "equal"),
        ({"fails": (GAIN, FAILED)}, "equal"),
        # A branch that loses two points, even within the noise.
        ({"hurts": (GAIN, candidate(0.5, -0.02))}, "equal"),
        # Within one point of the best worst branch the mean decides.
        ({"hardly": (GAIN, candidate(0.5, -0.005))}, "hardly"),
        ({"a": (GAIN, GAIN), "b": (candidate(0.3, 0.095), GAIN)}, "b"),
        ({"a": (GAIN, GAIN), "b": (candidate(0.9, 0.08), GAIN)}, "a"),
        # Eligible are only weighters with their defaults.
        ({"fixed, searched": (GAIN, GAIN)}, "equal"),
    ],
)
def test_the_rule_for_the_default(rule, candidates, winner):
    assert rule.decide(results(**candidates))[0] == winner
