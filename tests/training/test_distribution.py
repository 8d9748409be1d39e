"""Two devices give what one gives; tests for the backends that have such a thing.

The number of devices is set before the backend starts, so this runs in processes of
its own, one for all balancers.
"""

import json

import fresh
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.compiled

BALANCERS = {
    "None": "None",
    "GradNorm": "lw.GradNorm()",
    "NashMTL at the parameters": "lw.NashMTL(level=lw.Parameters(update_every=2))",
    "MGDA calibrated": "lw.MGDA(level=lw.Calibrated(update_every=2))",
}
WITHOUT_STATE = {"None": "None", "UPGrad": "lw.UPGrad()"}
WITH_STATE = {name: make for name, make in BALANCERS.items() if make != "None"}

BEGIN = """
import contextlib, json, os, sys, warnings
import numpy as np
sys.path.insert(0, "tests/training")
{before}
import keras
from nets import LOSSES, arrays, sample_weights, two_heads
import lossweigh as lw

# What the two devices don't know of each other is what is tested.
warnings.filterwarnings("ignore", "The training model runs on 2 replicas")

def flat(values):
    return np.concatenate([np.ravel(one) for one in values]).tolist()

def build(weighter, balancer, in_force, **options):
    with in_force:
        training = lw.build_training_model(
            two_heads(**options), LOSSES, weighter, balancer
        )
        training.compile(keras.optimizers.SGD(0.1), metrics={{"zeta": ["mae"]}})
    return training
"""

# Prints for each balancer the history and all trained numbers of one device, then of
# two, as JSON.
COMPARE = """
weights = sample_weights(16)
weights["alpha"] += 0.5

def fit(balancer, start, in_force):
    x, y, w = *arrays(16), weights
    if {same_halves} and balancer is not None:
        halves = np.concatenate([np.r_[i : i + 4, i : i + 4] for i in (0, 4)])
        x = x[halves]
        y, w = ({{k: v[halves] for k, v in some.items()}} for some in (y, w))
    training = build(
        lw.LossWeighter(), balancer, in_force, regularised=balancer is None
    )
    if start is not None:
        training.prediction_model.set_weights(start)
    start = training.prediction_model.get_weights()
    history = training.fit(
        x, y, sample_weight=w, class_weight={{"alpha": {{1: 2.0}}}},
        validation_data=(x, y), batch_size=8, epochs=2, shuffle=False, verbose=0,
    )
    # Gradients at the representation are as long as there are rows: of half a batch, or
    # of a whole one.
    trained = [variable for variable in training.weights if variable.name != "gramian"]
    values = flat(keras.ops.convert_to_numpy(variable) for variable in trained)
    return start, [history.history, values]

found = {{}}
for name, make in {balancers}.items():
    start, one = fit(eval(make), None, contextlib.nullcontext())
    found[name] = one, fit(eval(make), start, {two}())[1]
print(json.dumps(found))
"""

# Prints for each balancer all numbers of a training model, as JSON: at first, after
# two batches on two devices, and the means of what one device finds for the rows that
# each of the two got.
APART = """
x, y = arrays(15)

def fit(training, start, rows):
    training.set_weights(start)
    some = {{name: values[rows] for name, values in y.items()}}
    training.fit(x[rows], some, batch_size=8, shuffle=False, verbose=0)
    return training.get_weights()

found = {{}}
for name, make in {balancers}.items():
    one = build(lw.FixedWeights(), eval(make), contextlib.nullcontext())
    two = build(lw.FixedWeights(), eval(make), {two}())
    start = one.get_weights()
    found[name] = [flat(start), flat(fit(two, start, slice(0, 15)))]
    for parts in ((slice(0, 4), slice(4, 8)), (slice(8, 12), slice(12, 15))):
        values = [fit(one, start, rows) for rows in parts]
        start = [np.mean(some, axis=0) for some in zip(*values)]
    found[name].append(flat(start))
print(json.dumps(found))
"""

MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)

def mirrored():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy.scope()
"""

DATA_PARALLEL = """
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"

def data_parallel():
    devices = keras.distribution.list_devices()
    assert len(devices) == 2
    return keras.distribution.DataParallel(devices=devices).scope()
"""


def run(code, before, **options):
    """What the code prints as JSON, by balancer."""
    lines = fresh.run((BEGIN + code).format(before=before, **options)).splitlines()
    (line,) = (line for line in lines if line.startswith("{"))
    return json.loads(line)


def assert_two_equal_one(one, two):
    (history, values), (of_two, values_of_two) = one, two
    assert {"loss", "val_loss", "zeta_mae", "alpha_weight"} < history.keys()
    assert of_two.keys() == history.keys()
    for name, numbers in history.items():
        assert of_two[name] == pytest.approx(numbers, abs=1e-5), name
    assert values_of_two == pytest.approx(values, abs=1e-4)


if keras.backend.backend() == "tensorflow":
    # A process each: TensorFlow has one shape for the first sum of all replicas.
    @pytest.fixture(scope="module")
    def same_halves():
        options = {"two": "mirrored", "same_halves": True, "balancers": WITHOUT_STATE}
        return run(COMPARE, MIRRORED, **options)

    @pytest.fixture(scope="module")
    def unequal_parts():
        return run(APART, MIRRORED, two="mirrored", balancers=WITH_STATE)

    @pytest.mark.parametrize("balancer", WITHOUT_STATE)
    def test_mirrored_strategy(same_halves, balancer):
        """Each replica balances its own half of a batch: let these be the same."""
        assert_two_equal_one(*same_halves[balancer])

    @pytest.mark.parametrize("balancer", WITH_STATE)
    def test_replicas_of_unequal_parts(unequal_parts, balancer):
        """Four rows each, then four and three: the means of what each finds alone."""
        start, both, means = map(np.array, unequal_parts[balancer])
        assert np.abs(both - start).max() > 0.01
        np.testing.assert_allclose(both, means, rtol=1e-4, atol=1e-6)


if keras.backend.backend() == "jax":

    @pytest.fixture(scope="module")
    def two_devices():
        options = {"two": "data_parallel", "same_halves": False}
        return run(COMPARE, DATA_PARALLEL, balancers=BALANCERS, **options)

    @pytest.mark.parametrize("balancer", BALANCERS)
    def test_data_parallel(two_devices, balancer):
        """The whole batch is balanced, whatever the halves of it are."""
        assert_two_equal_one(*two_devices[balancer])
