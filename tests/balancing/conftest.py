"""What a file of solvers compiled is given back after it."""

import gramians
import pytest


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_solvers():
    yield
    gramians._solver.cache_clear()
    gramians._advance.cache_clear()
