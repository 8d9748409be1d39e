"""Many drawn trainings, against NumPy, and drawn faults of their data.

    KERAS_BACKEND=torch python tests/fuzz.py --cases 20000
    KERAS_BACKEND=jax python tests/fuzz.py --cases 200 --seed 7 --compiled

A case is a model, its losses, weighter, balancer, masks, weights and data, which are
evaluated and trained for an epoch; a fault is a case whose data must be refused in
words. What fails is made as small as possible and printed, and nothing else is tried.
JAX compiles each case, which takes 2 to 5 seconds.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent / "fuzzing"))

import cases
import damages
import differences
import hypothesis
import keras

import lossweigh

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--cases", type=int, default=1000)
parser.add_argument("--faults", type=int, default=None, help="default: a fifth")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--compiled", action="store_true", help="not eagerly")
options = parser.parse_args()
faults = options.cases // 5 if options.faults is None else options.faults

warnings.simplefilter("error")
# Keras asks NumPy to convert tensors whose __array__ has no copy argument.
warnings.filterwarnings("ignore", message="__array__ implementation")
# After an epoch of a few rows a weight may be small for once.
warnings.filterwarnings("ignore", category=lossweigh.CollapseWarning)
cases.EAGER = not (options.compiled or keras.backend.backend() == "jax")


def tried(number, function, strategy):
    """Runs a function on so many drawn examples, and says every minute how many."""
    done, said, begin = 0, time.monotonic(), time.monotonic()

    def one(drawn):
        nonlocal done, said
        function(drawn)
        done += 1
        if time.monotonic() > said + 60:
            said = time.monotonic()
            print(f"{function.__name__}: {done} of {number}", flush=True)

    test = hypothesis.given(strategy)(one)
    test = hypothesis.seed(options.seed)(test)
    cases.settings(number)(test)()
    seconds = time.monotonic() - begin
    print(f"{function.__name__}: {done}, each as it must be, in {seconds:.0f} s")


def case(drawn):
    assert not (found := differences.of(drawn)), "\n".join(found)


def fault(drawn):
    damages.refused(drawn)


print(f"Keras {keras.__version__}, {keras.backend.backend()}", flush=True)
if options.cases:
    tried(options.cases, case, cases.cases())
if faults:
    tried(faults, fault, cases.cases().flatmap(damages.faults))
