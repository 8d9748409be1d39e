"""A benchmark that lacks its data says what it is, in words."""

import importlib.util
import runpy
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


@pytest.mark.parametrize("name", NEEDED)
def test_it_names_the_file_its_source_and_its_shapes(name, tmp_path, monkeypatch):
    arguments = [name, "--short", OPTIONS[name], str(tmp_path / "cells")]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.syspath_prepend(BENCHMARKS)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    text = stopped.value.code  # which Python prints; then it ends with status 1
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
