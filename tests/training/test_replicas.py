"""Several replicas that don't know of each other are told of where it matters.

In processes of their own: the number of devices is set before a backend starts.
"""

import json

import fresh
import keras
from nets import LOSSES, two_heads

import lossweigh as lw

MISSING = {name: lw.BranchLoss(loss, missing="nan") for name, loss in LOSSES.items()}
POINTS = {
    **LOSSES,
    "zeta": lw.BranchLoss("mse", point_weights=lw.points.ResidualAttention(8)),
}
CASES = {
    "fixed": (LOSSES, lw.FixedWeights, None),
    "missing": (MISSING, lw.FixedWeights, None),
    "weighter": (LOSSES, lw.Uncertainty, None),
    "balancer": (LOSSES, lw.FixedWeights, lw.MGDA),
    "points": (POINTS, lw.FixedWeights, None),
}


def build(losses, weighter, balancer):
    training = lw.build_training_model(
        two_heads(), losses, weighter(), balancer and balancer()
    )
    training.compile("sgd")


BEGIN = """
import json, os, sys, tempfile, warnings
sys.path.insert(0, "tests/training")
{before}
from test_replicas import CASES, build

found = {{}}
for name, case in CASES.items():
    with warnings.catch_warnings(record=True) as told, {scope}:
        warnings.simplefilter("always")
        build(*case)
    found[name] = [str(one.message) for one in told if "replicas" in str(one.message)]
{after}
"""
MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
"""
TWO_PROCESSES = """
folder = tempfile.mkdtemp()
rank = 0 if os.fork() else 1
import contextlib
import torch
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)
"""
SEVERAL = {
    "tensorflow": {
        "before": MIRRORED,
        "scope": 'tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()',
        "after": "print(json.dumps(found))",
    },
    "torch": {
        "before": TWO_PROCESSES,
        "scope": "contextlib.nullcontext()",
        "after": "if rank == 0:\n    print(json.dumps(found))\n    os.wait()",
    },
}


def told(**code):
    lines = fresh.run(BEGIN.format(**code)).splitlines()
    (line,) = (line for line in lines if line.startswith("{"))
    return json.loads(line)


def test_one_device_is_quiet():
    for case in CASES.values():
        build(*case)  # a warning would be an error


if keras.backend.backend() in SEVERAL:

    def test_several_are_told_of():
        found = told(**SEVERAL[keras.backend.backend()])
        assert [name for name, words in found.items() if words] == [
            "missing",
            "weighter",
            "balancer",
            "points",
        ]
        assert all(len(words) <= 1 for words in found.values())
        assert "2 replicas" in found["missing"][0]
        assert "masks and missing labels" in found["missing"][0]
        assert "the weighter Uncertainty" in found["weighter"][0]
        assert "the balancer MGDA" in found["balancer"][0]
        assert "the weights of points ResidualAttention" in found["points"][0]
