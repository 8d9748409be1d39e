"""Drawn trainings against NumPy: the same ones each time. `tests/fuzz.py` draws more.

JAX has the fewest, because it compiles each of them.
"""

import cases
import damages
import differences
import keras
import pytest
from hypothesis import given

# After an epoch of a few rows a weight may be small for once.
pytestmark = [
    pytest.mark.filterwarnings("ignore::lossweigh.CollapseWarning"),
    pytest.mark.no_cover,
]

NUMBER = {"torch": 220, "tensorflow": 60, "jax": 20}[keras.backend.backend()]


@cases.settings(NUMBER, derandomize=True)
@given(cases.cases())
def test_a_drawn_training_equals_numpy(case):
    assert not (found := differences.of(case)), "\n".join(found)


@cases.settings(NUMBER // 4, derandomize=True)
@given(cases.cases().flatmap(damages.faults))
def test_a_drawn_fault_is_refused(fault):
    damages.refused(fault)
