"""The prediction model leaves: a process without lossweigh reads it, the same.

`test_saving.py` has the files of Keras: `.keras`, `.h5` and `.weights.h5`.
"""

import importlib.metadata
import importlib.util

import fresh
import keras
import numpy as np
import pytest
from nets import LOSSES, arrays, two_heads

import lossweigh as lw

pytestmark = pytest.mark.compiled

X, Y = arrays()
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lossweigh":
            raise ImportError("lossweigh isn't installed there")

sys.meta_path.insert(0, Refuse())
import numpy as np

folder = sys.argv[1]
data = dict(np.load(folder + "/data.npz"))
x = data.pop("x")
READ
for name, expected in data.items():
    np.testing.assert_allclose(predicted[name], expected, rtol=0, atol=1e-6)
assert "lossweigh" not in sys.modules
print("the same")
"""
# format: what reads it, and gives the predictions by name
SAVED_MODEL = """
import tensorflow as tf
model = tf.saved_model.load(folder + "/left")
predicted = model.serve(x)
predicted = {name: value.numpy() for name, value in predicted.items()}
"""
TORCH = """
import torch
program = torch.export.load(folder + "/left.pt2")
predicted = program.module()(torch.from_numpy(x))
predicted = {name: value.detach().numpy() for name, value in predicted.items()}
"""
ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/left.onnx")
values = session.run(None, {session.get_inputs()[0].name: x})
# Keras gives the outputs in the order of their names.
predicted = dict(zip(sorted(data), values))
"""
LITE = """
from ai_edge_litert.interpreter import Interpreter
lite = Interpreter(folder + "/left.tflite")
index = lite.get_input_details()[0]["index"]
lite.resize_tensor_input(index, x.shape)
lite.allocate_tensors()
lite.set_tensor(index, x)
lite.invoke()
values = [lite.get_tensor(one["index"]) for one in lite.get_output_details()]
sizes = {value.shape[1]: value for value in values}
predicted = {name: sizes[expected.shape[1]] for name, expected in data.items()}
"""


def trained(balancer=None):
    training = lw.build_training_model(two_heads(), LOSSES, lw.DWA(), balancer)
    training.compile("adam")
    training.fit(X, Y, verbose=0)
    return training


def leaves(training, tmp_path, read):
    """Another process reads what was written, and predicts the same."""
    np.savez(
        tmp_path / "data.npz", x=X, **training.prediction_model.predict(X, verbose=0)
    )
    out = fresh.run(ALONE.replace("READ", read), tmp_path)
    assert out.split()[-2:] == ["the", "same"]


def need(*packages):
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"This test needs {name}. Install it with: pip install "
                f"{name.replace('_', '-')}"
            )


def saved_model(model, folder):
    model.export(folder / "left", verbose=False)


def torch_program(model, folder):
    import torch

    rows = {"args": ({0: torch.export.Dim.DYNAMIC},)}  # else for one row, says Keras
    model.export(
        folder / "left.pt2", format="torch", dynamic_shapes=rows, verbose=False
    )


def onnx(model, folder):
    model.export(folder / "left.onnx", format="onnx", verbose=False)


def lite(model, folder):
    model.export(folder / "left.tflite", format="litert", verbose=False)


JAX = tuple(int(part) for part in importlib.metadata.version("jax").split(".")[:2])
# backend: what Keras exports there; what exports it, what reads it
FORMATS = {
    "tensorflow": {"SavedModel": (saved_model, SAVED_MODEL)},
    "jax": {"SavedModel": (saved_model, SAVED_MODEL)},
    "torch": {"torch.export": (torch_program, TORCH)},
}[keras.backend.backend()]
# ... with packages that aren't in the extra `test`
MORE = {
    "tensorflow": {
        "ONNX": (onnx, ONNX, ["onnxruntime", "tf2onnx"]),
        "LiteRT": (lite, LITE, ["ai_edge_litert"]),
    },
    "jax": {"ONNX": (onnx, ONNX, ["onnxruntime", "jax2onnx"])},
    "torch": {
        "ONNX": (onnx, ONNX, ["onnxruntime", "onnx", "onnxscript"]),
        "LiteRT": (lite, LITE, ["ai_edge_litert", "litert_torch"]),
    },
}[keras.backend.backend()]


@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.xfail(
    keras.backend.backend() == "jax" and JAX >= (0, 12),
    reason="TensorFlow 2.21 can't read what JAX 0.12 writes: its StableHLO is older",
)
@pytest.mark.parametrize("balancer", [None, lw.UPGrad()])
@pytest.mark.parametrize("name", FORMATS)
def test_leaves(name, balancer, tmp_path):
    export, read = FORMATS[name]
    training = trained(balancer)
    export(training.prediction_model, tmp_path)
    leaves(training, tmp_path, read)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MORE)
def test_leaves_by_more_packages(name, tmp_path):
    export, read, packages = MORE[name]
    need(*packages)
    training = trained(lw.UPGrad())
    export(training.prediction_model, tmp_path)
    leaves(training, tmp_path, read)


@pytest.mark.smoke
@pytest.mark.parametrize("balancer", [None, lw.UPGrad()])
@pytest.mark.parametrize("format", ["tf_saved_model", "onnx", "torch", "litert"])
def test_a_training_model_is_not_exported(tmp_path, balancer, format):
    training = lw.build_training_model(two_heads(), LOSSES, balancer=balancer)
    message = r"Export `training\.prediction_model`, whose .*filepath='.*left'"
    with pytest.raises(ValueError, match=message):
        training.export(tmp_path / "left", format=format)
    with pytest.raises(ValueError, match=message):
        training.export(tmp_path / "left")
    assert not [*tmp_path.iterdir()]
