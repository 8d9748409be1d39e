"""Several devices, which have a part of each batch, train as one device does.

On TensorFlow by `MirroredStrategy`, on torch by `DistributedDataParallel`, on JAX by
`keras.distribution`. The number of devices is set before a backend starts, so all of it
runs in processes of its own.
"""

import json

import fresh
import keras
import numpy as np
import pytest
import replica_cases

from lossweigh import _backend

pytestmark = pytest.mark.compiled
BACKEND = keras.backend.backend()

BEGIN = """
import json, os, sys, warnings
sys.path.insert(0, "tests/training")
number, names = int(sys.argv[1]), sys.argv[2].split("|")
{before}
import keras
import numpy as np
from replica_cases import BATCH, ROWS, all_cases, build, data, numbers, other_cases

warnings.filterwarnings("ignore", "The loss weight of the branch")  # has collapsed
cases = {{**all_cases(), **other_cases()}}
"""
MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * number
)
# One for all: TensorFlow mixes up the sums of two strategies.
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(number)])
"""
DEVICES = """
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={number}"
"""
# One distribution for all cases; a batch is cut along the mesh's first axis.
DATA_PARALLEL = """
strategy = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
assert len(keras.distribution.list_devices()) == number
"""
MODEL_PARALLEL = """
devices = keras.distribution.list_devices()
mesh = keras.distribution.DeviceMesh((number // 2, 2), ("batch", "model"), devices)
layout = keras.distribution.LayoutMap(mesh)
layout["dense.*kernel"] = (None, "model")
layout["dense.*bias"] = ("model",)
strategy = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
"""
# Two processes with a device each; every one is given its part of the rows.
JAX_PROCESSES = """
import socket
with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
rank = 0 if os.fork() else 1
os.environ["XLA_FLAGS"] = ""
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
import keras
keras.distribution.initialize(address, num_processes=2, process_id=rank)
"""
FIT_PARTS = """
assert len(devices) == 2
found = {}
for name in names:
    x, y = data(name)
    one = build(name, cases[name])
    with strategy.scope():
        several = build(name, cases[name])
        several.set_weights(one.get_weights())
    found[name] = {"start": numbers(one)}
    one.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    found[name]["one"] = [{}, numbers(one)]
    part = {key: values[mine] for key, values in y.items()}
    with strategy.scope():
        x = keras.tree.map_structure(lambda values: values[mine], x)
        several.fit(x, part, batch_size=size, shuffle=False, verbose=0)
    found[name]["several"] = [{}, numbers(several)]
if rank == 0:
    print(json.dumps(found), flush=True)
"""
END = """
jax.distributed.shutdown()  # each waits for the other
os._exit(0)
"""
FIT = """
import tempfile
import lossweigh as lw

def rows(training, x, y):
    file = f"{tempfile.mkdtemp()}/run.h5"
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    logger = lw.callbacks.HDF5Logger(file)
    logs = training.fit(x, y, callbacks=[logger], **options).history
    table = lw.callbacks.HDF5Logger.read(file)
    return logs | {f"row_{name}": [*map(float, v)] for name, v in table.items()}

found = {}
for name in names:
    x, y = data(name)
    one = build(name, cases[name])
    with strategy.scope():
        several = build(name, cases[name])
        several.set_weights(one.get_weights())
    found[name] = {"start": numbers(one)}
    found[name]["one"] = [rows(one, x, y), numbers(one)]
    with strategy.scope():
        try:
            found[name]["several"] = [rows(several, x, y), numbers(several)]
        except ValueError as error:
            found[name]["refused"] = str(error)
print(json.dumps(found))
"""
# In folders that all processes know.
FOLDERS = """
import tempfile
folders = tempfile.mkdtemp(), tempfile.mkdtemp()
"""
ALL_ROWS = """
mine, size, rank = slice(None), BATCH, 0
"""
ROWS_OF_A_PROCESS = """
devices = keras.distribution.list_devices()
strategy = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
mine, size = np.arange(ROWS) // (BATCH // 2) % 2 == rank, BATCH // 2
"""
RESUME = """
import lossweigh as lw

class Stopped(Exception):
    pass

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 4:  # in the second epoch
            raise Stopped

def train(folder, *callbacks):
    with strategy.scope():
        training = build("FAMO", cases["FAMO"])
        callbacks = [lw.callbacks.Resume(f"{folder}/state.weights.h5"), *callbacks]
        options = {"batch_size": size, "shuffle": False, "verbose": 0, "epochs": 3}
        training.fit(x, y, callbacks=callbacks, **options)
    return numbers(training)

x, y = keras.tree.map_structure(lambda values: values[mine], data("FAMO"))
whole = train(folders[0])
try:
    train(folders[1], Stop())
except Stopped:
    resumed = train(folders[1])
if rank == 0:
    print(json.dumps([whole, resumed]), flush=True)
"""
PROCESSES = """
import tempfile
folder, rank = tempfile.mkdtemp(), 0
for other in range(1, number):
    if rank == 0 and not os.fork():
        rank = other
import torch
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=number
)
"""
LOOP = """
from torch.nn.parallel import DistributedDataParallel

def batches(x, y):
    named = x if isinstance(x, dict) else {"x": x, "tokens": x}
    named = {**named, **{f"{name}_target": values for name, values in y.items()}}
    for begin in range(0, len(named["x"]), BATCH):
        yield {name: values[begin : begin + BATCH] for name, values in named.items()}

def step(model, batch):
    training = getattr(model, "module", model)
    training.zero_grad()
    loss = model(batch, training=True)["weighted_loss"].mean()
    loss.backward()
    variables = training.trainable_variables
    with torch.no_grad():
        training.optimizer.apply([v.value.grad for v in variables], variables)

found = {}
for name in names:
    x, y = data(name)
    one, several = (build(name, cases[name]) for _ in range(2))
    several.set_weights(one.get_weights())
    found[name] = {"start": numbers(one)}
    model = DistributedDataParallel(several)
    for batch in batches(x, y):
        inputs = {k: v for k, v in batch.items() if k in one.input}
        targets = {k: inputs[f"{k}_target"] for k in y}
        others = {k: v for k, v in inputs.items() if not k.endswith("_target")}
        one.train_on_batch(others, targets)
        part = slice(BATCH // number * rank, BATCH // number * (rank + 1))
        inputs = {k: torch.as_tensor(v[part]) for k, v in inputs.items()}
        try:
            step(model, inputs)
        except ValueError as error:
            found[name]["refused"] = str(error)
            break
    found[name]["one"] = [{}, numbers(one)]
    found[name]["several"] = [{}, numbers(several)]
everyone = [None] * number
mine = {name: case["several"][1] for name, case in found.items()}
torch.distributed.all_gather_object(everyone, mine)
for name in names:
    found[name]["ranks"] = [one[name] for one in everyone]
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    one.fit(x, y, verbose=0)
found["told"] = [str(one.message) for one in told]
if rank == 0:  # alone, while the others wait
    one.inspect(x, y)
    one.evaluate(x, y, verbose=0)
torch.distributed.barrier()
if rank == 0:
    print(json.dumps(found))
    for _ in range(1, number):
        os.wait()
torch.distributed.destroy_process_group()
"""
# Each device has a row more than the one before: what all see, and which rows are its.
GATHER = """
import numpy as np
from lossweigh import _replicas

def gathered(rank):
    rows = np.arange(rank + 1) + 10 * rank
    both = [keras.ops.array(rows, "int32"), keras.ops.array(rows[:, None] / 2)]
    (index, halves), positions = _replicas.of_all_rows(both)
    return index, halves, positions
"""
GATHERED = {
    "tensorflow": GATHER
    + """
def on_each():
    rank = tf.distribute.get_replica_context().replica_id_in_sync_group
    return gathered(rank)

found = [
    [keras.ops.convert_to_numpy(one).tolist() for one in several.values]
    for several in strategy.run(on_each)
]
print(json.dumps(list(zip(*found))))
""",
    "torch": GATHER
    + """
mine = [keras.ops.convert_to_numpy(one).tolist() for one in gathered(rank)]
everyone = [None] * number
torch.distributed.all_gather_object(everyone, mine)
if rank == 0:
    print(json.dumps(everyone))
    for _ in range(1, number):
        os.wait()
torch.distributed.destroy_process_group()
""",
}
WAYS = {
    "tensorflow": {"MirroredStrategy": BEGIN.format(before=MIRRORED) + FIT},
    "torch": {"DistributedDataParallel": BEGIN.format(before=PROCESSES) + LOOP},
    "jax": {
        "DataParallel": BEGIN.format(before=DEVICES) + DATA_PARALLEL + FIT,
        "ModelParallel": BEGIN.format(before=DEVICES) + MODEL_PARALLEL + FIT,
        "processes": BEGIN.format(before=JAX_PROCESSES)
        + ROWS_OF_A_PROCESS
        + FIT_PARTS
        + END,
    },
}[BACKEND]


def trained(way, number, names, **options):
    """What one device and several made of each case, by name."""
    return fresh_json(WAYS[way], number, "|".join(names), **options)


def fresh_json(script, number, names="", **options):
    """What the script prints as its last line, run with so many devices."""
    return json.loads(fresh.run(script, number, names, **options).splitlines()[-1])


def assert_as_one_device(case):
    (logs, one), (logs_of_several, several) = case["one"], case["several"]
    moves = [
        np.abs(np.subtract(values, start)).max()
        for (_, values), (_, start) in zip(one, case["start"], strict=True)
    ]
    assert max(moves) > 0.01
    for (path, values), (_, others) in zip(one, several, strict=True):
        np.testing.assert_allclose(others, values, rtol=1e-5, atol=1e-6, err_msg=path)
    assert logs_of_several.keys() == logs.keys()  # of epochs, and an HDF5Logger's rows
    for name, values in logs.items():
        np.testing.assert_allclose(
            logs_of_several[name], values, rtol=1e-5, atol=1e-6, err_msg=name
        )
    for rank in case.get("ranks", []):
        assert [v for _, v in rank] == [v for _, v in several]  # to the bit


RESUMED = {
    "tensorflow": {"MirroredStrategy": BEGIN.format(before=FOLDERS + MIRRORED)},
    "torch": {},  # its `fit` trains in one process
    "jax": {
        "DataParallel": BEGIN.format(before=FOLDERS + DEVICES) + DATA_PARALLEL,
        "processes": BEGIN.format(before=FOLDERS + JAX_PROCESSES) + ROWS_OF_A_PROCESS,
    },
}[BACKEND]
OTHERS = [*replica_cases.other_cases()]


@pytest.fixture(scope="module")
def two_devices(request):
    """Of the cases that this run has."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.module is request.module and "name" in item.fixturenames
    ]
    return trained(next(iter(WAYS)), 2, chosen or [*replica_cases.FEW][:1])


@pytest.mark.parametrize("name", replica_cases.FEW)
def test_two_devices(two_devices, name):
    assert_as_one_device(two_devices[name])


_NO_FOUR = ("processes", 4)
REFUSED = OTHERS if BACKEND == "tensorflow" else []


@pytest.mark.parametrize("name", OTHERS)
def test_what_may_be_refused(two_devices, name):
    if name not in REFUSED:
        assert_as_one_device(two_devices[name])
    else:
        assert "`level` must have `update_every=1`" in two_devices[name]["refused"]
        assert "=lw." in two_devices[name]["refused"]  # the cure


if RESUMED:

    @pytest.mark.parametrize("way", RESUMED)
    def test_a_stopped_training_goes_on_as_if_it_had_not_been(way):
        several = way == "processes"
        script = RESUMED[way] + (RESUME + END if several else ALL_ROWS + RESUME)
        whole, resumed = fresh_json(script, 2)
        assert [values for _, values in resumed] == [values for _, values in whole]


if BACKEND in GATHERED:

    def test_parts_of_different_size_are_put_together():
        before = {"tensorflow": MIRRORED, "torch": PROCESSES}[BACKEND]
        script = BEGIN.format(before=before) + GATHERED[BACKEND]
        for rank, (index, halves, positions) in enumerate(fresh_json(script, 3)):
            assert index == [0, 10, 11, 20, 21, 22]
            assert halves == [[0.0], [5.0], [5.5], [10.0], [10.5], [11.0]]
            assert positions == [[0], [1, 2], [3, 4, 5]][rank]


if BACKEND == "torch":

    @pytest.fixture
    def group_of_one(tmp_path):
        import torch

        meet = f"file://{tmp_path}/meet"
        torch.distributed.init_process_group("gloo", meet, rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()

    def test_a_group_of_one_process(group_of_one):
        """What has no gradient, and isn't the argument itself."""
        rows = keras.ops.array([[1.0, 2.0], [3.0, 4.0]]).T.requires_grad_()
        for several in (_backend.sum_over_replicas, _backend.rows_of_all_replicas):
            (result,) = several([rows])
            assert not result.requires_grad
            assert result is not rows
            np.testing.assert_array_equal(result, [[1.0, 3.0], [2.0, 4.0]])
        assert _backend.replica_number() == 0
        with _backend.alone():
            assert _backend.replicas() == 1

    def test_fit_in_a_process_group_warns(two_devices):
        (told,) = [words for words in two_devices["told"] if "process" in words]
        assert "Each of the 2 processes of the group fits a model by itself" in told


@pytest.mark.long
@pytest.mark.parametrize(
    ("way", "number"),
    [(way, number) for way in WAYS for number in (2, 4) if (way, number) != _NO_FOUR],
)
def test_every_method(way, number):
    found = trained(way, number, list(replica_cases.all_cases()), timeout=1500)
    found.pop("told", None)
    for name, case in found.items():
        print(name)
        assert_as_one_device(case)
