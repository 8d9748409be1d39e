"""Every test starts from the same random seed, and runs its models eagerly."""

import gc
import os
import sys
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

# What is imported stays: the garbage collector needn't walk through it again and again.
gc.collect()
gc.freeze()

MOST_MEMORY = 3e9  # bytes that a run may take: laptops have 8 GB


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


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_functions():
    """What a file of tests traced and compiled is given back after it."""
    yield
    keras.utils.clear_session()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    gc.collect()


def most_memory():
    """The most memory, in bytes, that this process had at any time; 0 if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"Most memory of this process: {most_memory():.2e} B")


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == 0 and most_memory() > MOST_MEMORY:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
