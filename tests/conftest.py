"""Every test starts from the same random seed."""

import os
from pathlib import Path

# On a machine without a GPU TensorFlow reports that as an error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A sample of 46 tests took 62 s on JAX with this, 79 s without.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
# What JAX compiles is kept: many tests compile the same. A sample of 87 tests took
# 286 s without this, 228 s with an empty folder, and 66 s when it was run again.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def run_eagerly(request, monkeypatch):
    """Models are compiled with `run_eagerly=True` where a test says nothing else.

    A test of numbers needs no compiled step, which takes 4 to 10 times as long to
    make as an eager one takes to run. A test whose subject is compilation, or that
    runs what users run, is marked `compiled`, or says `run_eagerly=False`.
    """
    if request.node.get_closest_marker("compiled"):
        return
    compile_model = keras.Model.compile

    def compile_eagerly(self, *args, run_eagerly=True, **kwargs):
        return compile_model(self, *args, run_eagerly=run_eagerly, **kwargs)

    monkeypatch.setattr(keras.Model, "compile", compile_eagerly)
