"""Saved and loaded: in a fresh process, whole or not at all, and without us."""

import zipfile

import fresh
import h5py
import keras
import numpy as np
import pytest
from keras import ops
from nets import LOSSES, arrays, numbers, sample_weights, state, two_heads, two_inputs

import lossweigh as lw

pytestmark = pytest.mark.compiled

X, Y = arrays()
WEIGHTS = sample_weights()
FIT = {"sample_weight": WEIGHTS, "batch_size": 4, "shuffle": False, "verbose": 0}


GO_ON = """
import sys
import keras, numpy as np
from keras import ops
import lossweigh

folder = sys.argv[1]
data = dict(np.load(folder + "/data.npz"))
training = keras.models.load_model(folder + "/training.keras")
variables = [*training.variables, *training.optimizer.variables]
result = {f"state_{i}": ops.convert_to_numpy(v) for i, v in enumerate(variables)}
x, y = [data["x"], data["x"][::-1]], [data["zeta"], data["alpha"]]
for name, values in training.prediction_model.predict(x, verbose=0).items():
    result[f"predicted_{name}"] = values
weights = {"zeta": data["zeta_weight"], "alpha": data["alpha_weight"]}
history = training.fit(
    x, y, sample_weight=weights, batch_size=4, shuffle=False, verbose=0
)
for name, values in history.history.items():
    result[f"log_{name}"] = values[0]
result["class"] = type(training).__name__
np.savez(folder + "/result.npz", **result)
"""


def test_a_fresh_process_goes_on(tmp_path):
    x = [X, X[::-1]]
    losses = {
        "zeta": keras.losses.Huber(delta=0.5),
        "alpha": lw.BranchLoss(LOSSES["alpha"], class_weight={1: 2.0}, missing=-1),
    }
    model = two_inputs()
    training = lw.build_training_model(model, losses, lw.LossWeighter())
    training.compile(
        keras.optimizers.Adam(0.05),
        metrics={"alpha": ["accuracy"], "zeta": [keras.metrics.MeanSquaredError()]},
        weighted_metrics={"alpha": ["accuracy"]},
    )
    training.fit(x, Y, **FIT)
    training.save(tmp_path / "training.keras")
    saved, predicted = state(training), model.predict(x, verbose=0)
    assert abs(ops.convert_to_numpy(training.weighter.loss_weight) - 0.5) > 1e-3
    history = training.fit(x, Y, **FIT).history
    expected = {name: values[0] for name, values in history.items()}

    weights = {f"{name}_weight": weight for name, weight in WEIGHTS.items()}
    np.savez(tmp_path / "data.npz", x=X, **Y, **weights)
    fresh.run(GO_ON, tmp_path)
    result = dict(np.load(tmp_path / "result.npz"))
    assert result["class"] == "TrainingModel"
    assert sum(name.startswith("state_") for name in result) == len(saved)
    for index, array in enumerate(saved):
        np.testing.assert_array_equal(result[f"state_{index}"], array)
    for name, values in predicted.items():
        np.testing.assert_allclose(result[f"predicted_{name}"], values, atol=1e-7)
    logs = {name[4:]: v for name, v in result.items() if name.startswith("log_")}
    assert numbers(logs) == pytest.approx(expected, abs=1e-7)


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras, before both
@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_weights_of_the_prediction_model(tmp_path, name):
    model = two_inputs()
    saved = model.get_weights()
    (model.save if name == "model.keras" else model.save_weights)(tmp_path / name)
    training = lw.build_training_model(model, LOSSES, lw.LossWeighter())
    training.compile("adam")
    training.fit([X, X[::-1]], Y, **FIT)
    with pytest.raises(ValueError, match=r"`training\.prediction_model\.load_weights`"):
        training.load_weights(tmp_path / name)
    training.prediction_model.load_weights(tmp_path / name)
    for one, other in zip(model.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(one, other)


ALONE = """
import sys
import keras, numpy as np

folder = sys.argv[1]
data = np.load(folder + "/data.npz")
x = [data["right"], data["left"]]
whole = keras.models.load_model(folder + "/prediction.keras")
legacy = keras.models.load_model(folder + "/prediction.h5", compile=False)
weights = keras.models.clone_model(whole)
weights.load_weights(folder + "/prediction.weights.h5")
for model in (whole, legacy, weights):
    predicted = model.predict(x, verbose=0)
    for name in ("zeta", "alpha"):
        np.testing.assert_allclose(predicted[name], data[name], atol=1e-6)
assert "lossweigh" not in sys.modules
print("alone")
"""


def arrays_in(path):
    """The names and shapes of the arrays in an HDF5 file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item.shape})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


# The `.h5` format is Keras's legacy one, which it says.
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_prediction_model_needs_no_lossweigh(tmp_path):
    model, x = two_inputs(), [X, X[::-1]]
    training = lw.build_training_model(model, LOSSES, lw.LossWeighter())
    training.compile("adam")
    training.fit(x, Y, **FIT)
    names = ("prediction.keras", "prediction.h5")
    for name in names:
        model.save(tmp_path / name)
    model.save_weights(tmp_path / "prediction.weights.h5")
    np.savez(
        tmp_path / "data.npz", right=x[0], left=x[1], **model.predict(x, verbose=0)
    )
    assert fresh.run(ALONE, tmp_path).split()[-1] == "alone"

    # No variable of a loss is in the files: what is there is the model's.
    training.save_weights(tmp_path / "training.weights.h5")
    zipfile.ZipFile(tmp_path / "prediction.keras").extract("model.weights.h5", tmp_path)
    own = sorted(tuple(weight.shape) for weight in model.weights)
    for name in ("prediction.h5", "prediction.weights.h5", "model.weights.h5"):
        found = arrays_in(tmp_path / name)
        assert sorted(found.values()) == own, name
        assert not any("loss" in key or "weighter" in key for key in found), name
    of_training = arrays_in(tmp_path / "training.weights.h5")
    assert any("weighter" in key for key in of_training)
    archive = zipfile.ZipFile(tmp_path / "prediction.keras")
    assert b"lossweigh" not in archive.read("config.json")


@keras.saving.register_keras_serializable("test_saving")
class NotSerialisable(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    def get_config(self):
        raise OSError("this loss can't be written down")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = lw.build_training_model(two_heads(), LOSSES)
    training.compile("sgd")
    training.save("training.keras")
    before = (tmp_path / "training.keras").read_bytes()
    bad = lw.build_training_model(two_heads(), {**LOSSES, "zeta": NotSerialisable()})
    bad.compile("sgd")
    for path in ("training.keras", tmp_path / "new.keras"):
        with pytest.raises(OSError, match="can't be written down"):
            bad.save(path)
    assert (tmp_path / "training.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["training.keras"]
    training.train_on_batch(X, Y)
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model("training.keras")
    for one, other in zip(state(loaded), state(training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["training.keras"]


@keras.saving.register_keras_serializable("test_saving")
class NotWritable(keras.layers.Dense):
    """Its numbers can't be written; what comes before it in a file can."""

    def save_own_variables(self, store):
        raise OSError("no space left")


@pytest.mark.smoke
def test_weights_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = keras.Input((4,))
    hidden = keras.layers.Dense(2)(x)
    models = {}
    for name, layer in {"good": keras.layers.Dense, "bad": NotWritable}.items():
        model = keras.Model(x, {"zeta": layer(3, name="zeta")(hidden)})
        models[name] = lw.build_training_model(model, {"zeta": "mse"})
    good, bad = models["good"], models["bad"]
    for path in ("some.weights.h5", tmp_path / "some.weights.h5"):
        good.save_weights(path)
        before = (tmp_path / "some.weights.h5").read_bytes()
        with pytest.raises(OSError, match="no space left"):
            bad.save_weights(path)
        assert (tmp_path / "some.weights.h5").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["some.weights.h5"]
    saved = good.get_weights()
    good.set_weights([weights + 1 for weights in saved])
    good.load_weights("some.weights.h5")
    for one, other in zip(good.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_go_the_other_ways_that_keras_knows(tmp_path):
    """Several files, a name that Keras refuses, and a folder that isn't there."""
    training = lw.build_training_model(two_heads(), LOSSES)
    training.save_weights(tmp_path / "model.weights.json", max_shard_size=1)
    saved = training.get_weights()
    training.set_weights([weights + 1 for weights in saved])
    training.load_weights(tmp_path / "model.weights.json")
    for one, other in zip(training.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"must end in `\.weights\.h5`"):
        training.save_weights(tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError):
        training.save_weights(tmp_path / "nowhere" / "model.weights.h5")
    with pytest.raises(FileNotFoundError):
        training.save(tmp_path / "nowhere" / "model.keras")
