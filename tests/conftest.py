"""Every test starts from the same random seed, and runs its models eagerly."""

import ctypes
import gc
import importlib.metadata
import os
import sys
from pathlib import Path
from zlib import crc32

# On a machine without a GPU TensorFlow reports that as an error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND") == "jax":
    # XLA compiles 2 to 3 times as fast with these: four tests took 10 s, not 25.
    flags = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
    release = importlib.metadata.version("jaxlib").split(".")
    if [int(part) for part in release[:2]] < [0, 11]:  # a later one refuses the first
        flags += " --xla_cpu_use_fusion_emitters=false"
        flags += " --xla_cpu_parallel_codegen_split_count=1"
    os.environ.setdefault("XLA_FLAGS", flags)
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
MUCH_MEMORY = 2.3e9  # bytes at which compiled functions are given back
MORE_MEMORY = 0.2e9  # bytes that are taken until it is tried again, at least
much_memory = MUCH_MEMORY


def pytest_addoption(parser):
    parser.addoption(
        "--spread",
        action="store_true",
        help="of a test's cases TensorFlow and JAX run half each, torch all of them",
    )


@pytest.hookimpl(trylast=True)  # of what -m and -k have left
def pytest_collection_modifyitems(config, items):
    """Of a test's cases TensorFlow and JAX run about half each, and torch runs all.

    Which half is drawn by a case's name, so that no argument always goes with one
    backend. Each runs one case at least. A test whose cases differ from backend to
    backend is marked `every_case`, and isn't spread.
    """
    backend = keras.backend.backend()
    if not config.getoption("spread") or backend == "torch":
        return
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = set()
    for cases in tests.values():
        if cases[0].get_closest_marker("every_case"):
            kept.update(cases)
            continue
        turns = [("tensorflow", "jax")[crc32(c.nodeid.encode()) % 2] for c in cases]
        mine = [c for c, turn in zip(cases, turns, strict=True) if turn == backend]
        kept.update(mine or cases[:1])
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def run_eagerly(request, monkeypatch):
    """Models run eagerly where a test says nothing else, but on JAX.

    A test of numbers needs no compiled step, which takes TensorFlow 4 to 10 times as
    long to make as an eager one takes to run. (JAX compiles each operation of an eager
    step by itself: 93 tests took 140 s so, 87 s compiled.) A test whose subject is
    compilation, or that runs what users run, is marked `compiled`, or says how to run.
    """
    if keras.backend.backend() == "jax" or request.node.get_closest_marker("compiled"):
        return
    # On the class that defines it: Keras asks whether a model's class overrides it.
    trainer = next(cls for cls in keras.Model.__mro__ if "compile" in vars(cls))
    compile_model = trainer.compile

    def compile_eagerly(self, *args, **kwargs):
        if not kwargs.keys() & {"jit_compile", "steps_per_execution"}:
            kwargs.setdefault("run_eagerly", True)
        return compile_model(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "compile", compile_eagerly)


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    """What was traced and compiled is given back when it has come to take much.

    JAX would else run out of memory maps, of which Linux gives a process 65530, and
    TensorFlow's graphs would take 9 GB in a whole run.
    """
    global much_memory
    yield
    if memory_in_use() > much_memory:
        keras.utils.clear_session()
        if keras.backend.backend() == "jax":
            import jax

            jax.clear_caches()
        elif keras.backend.backend() == "tensorflow":
            # Each custom gradient that was ever traced is registered by a name, for
            # good, and holds the graph that it was traced in.
            from tensorflow.python.framework.ops import gradient_registry

            for name in [*gradient_registry.list()]:
                if name.startswith("CustomGradient-"):
                    del gradient_registry._registry[name]
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        much_memory = max(MUCH_MEMORY, memory_in_use() + MORE_MEMORY)


def memory_in_use():
    """The memory of this process in bytes; 0 where Linux isn't there to tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except FileNotFoundError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def most_memory():
    """The most memory in bytes that this process had at any time; 0 if unknown."""
    if not sys.platform.startswith("linux"):
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def pytest_sessionfinish(session, exitstatus):
    # pytest will collect five times more, through all that was ever traced.
    gc.collect()
    gc.freeze()
    if exitstatus == 0 and most_memory() > MOST_MEMORY:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    used = most_memory() / 1e9
    allowed = MOST_MEMORY / 1e9
    terminalreporter.write_line(f"Most memory at any time: {used:.1f} GB")
    if used > allowed:
        terminalreporter.write_line(f"FAILED: {allowed:.0f} GB are all it may take")
