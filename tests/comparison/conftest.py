"""`compare` collects garbage after each run: what is there before is left out."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def collect_garbage_of_this_file_alone():
    """The garbage collector walks through 20 times as many objects otherwise."""
    gc.collect()
    gc.freeze()
