"""What runs warned of is told under the table."""

import warnings

import keras
import numpy as np
import pytest
from problems import QUICK, data, shared

import lossweigh as lw
from lossweigh.comparison.told import counted, sentences

pytestmark = pytest.mark.once


class Collapses(lw.FixedWeights):
    """A method that gives branch b no weight."""

    learns = True

    @property
    def loss_weights(self):
        return keras.ops.convert_to_tensor([2.0, 0.0])


def test_a_collapse_and_advice_are_told_by_candidate(tmp_path):
    parts = data()
    x, y = parts["train"]
    parts["train"] = x, {"a": 100.0 * y["a"] + 1000.0, "b": y["b"]}
    given = {**QUICK, "budget": 2, "folder": tmp_path}
    comparison = lw.compare(shared, parts, {"collapses": Collapses()}, **given)
    equal, row = comparison.rows
    (advice,) = equal.warnings
    assert advice.startswith("2 of 2 runs: The weighted loss of the branch 'a' is ")
    assert advice.endswith("hardly be trained.")
    (collapse,) = row.warnings
    assert collapse.startswith("2 of 2 runs: The loss weight of the branch")
    shown = " ".join(str(comparison).split())
    assert f"`equal`, {advice}" in shown
    assert f"`collapses`, {collapse}" in shown
    comparison.to_html(tmp_path / "page.html")
    assert "2 of 2 runs" in (tmp_path / "page.html").read_text(encoding="utf-8")
    again = lw.compare(shared, parts, {"collapses": Collapses()}, **given)
    assert [one.warnings for one in again.rows] == [equal.warnings, row.warnings]


def test_a_warning_of_other_packages_is_none_of_a_method():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("Another package says so.", UserWarning, stacklevel=1)
        warnings.warn("It is 0.5 here. Mend it.", lw.AdviceWarning, stacklevel=1)
        warnings.warn("It is 1e-05 here. Mend it.", lw.AdviceWarning, stacklevel=1)
    assert sentences(caught) == ["It is 0.5 here."]


def test_warnings_with_other_numbers_are_counted_together():
    outcomes = [
        {"warnings": [f"It is {np.round(value, 3)}.", "Too large."]}
        for value in (0.1, 0.25)
    ]
    expected = ("2 of 3 runs: It is 0.1.", "2 of 3 runs: Too large.")
    assert counted([*outcomes, {}]) == expected
