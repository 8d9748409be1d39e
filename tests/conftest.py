"""Every test starts from the same random seed."""

import os

# Most of a test's time on JAX is compilation, and half of that LLVM's optimizations.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)
