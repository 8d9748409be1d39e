"""A training that is killed again and again ends with the numbers of another one."""

import json

import fresh
import keras
import pytest
from killed_runs import CASES, WAYS

import lossweigh as lw

RUNS = """
import pathlib, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, "tests/reliability")
import killed_runs
killed_runs.main(pathlib.Path(sys.argv[1]), sys.argv[2:])
"""
METHODS = [
    name
    for name in (*lw.weighting.__all__, *lw.balancing.__all__)
    if issubclass(getattr(lw, name), (lw.Weighter, lw.Balancer))
    and name not in ("Weighter", "Balancer")
]


def outcomes_of(folder, names):
    """By name, what the processes died of; or the error, if it showed."""
    fresh.run(RUNS, folder, *names, timeout=3000)
    return json.loads((folder / "outcomes.json").read_text())


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """Of the cases that this run has."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.originalname == test_the_numbers_are_those_of_one_process.__name__
    ]
    return outcomes_of(tmp_path_factory.mktemp("kills"), chosen)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_one_process(outcomes, name):
    assert "error" not in outcomes[name], outcomes[name]["error"]
    assert outcomes[name]["deaths"] == ["SIGKILL"] * len(CASES[name][-1])


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_every_method_at_drawn_moments(method, tmp_path):
    seeds = range(2)
    names = [f"drawn/{way}/{method}/{seed}" for way in WAYS for seed in seeds]
    outcomes = outcomes_of(tmp_path, names)
    wrong = {name: one for name, one in outcomes.items() if "error" in one}
    assert not wrong, json.dumps(wrong, indent=1)[:6000]
    kills = [one["deaths"] for one in outcomes.values()]
    print(f"{method} on {keras.backend.backend()}: {sum(map(len, kills))} kills")
    assert sum(map(len, kills)) >= len(names)
