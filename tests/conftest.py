"""Every test starts from the same random seed."""

import os

# What LLVM optimizes beyond this level takes a fifth of the tests' time on JAX.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)
