"""What docs/guides/works-with.md says works with lossweigh does, a test a row.

    python -m pytest .ci/works_with.py

Nothing is sent anywhere: trackers write into folders. The stage `works-with` of
.ci/long installs what is needed and runs this on all backends.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lossweigh as lw

LOSSES = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 8)).astype("float32")
Y = {"price": X[:, :1] ** 2, "kind": np.arange(96) % 3}
NAMES = {"price_loss", "kind_loss", "price_weight", "kind_weight", "relative_loss"}


def build_predictor(units=16):
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    shared = keras.layers.Dense(units, activation="relu")(x)
    price = keras.layers.Dense(1, name="price")(shared)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(shared)
    return keras.Model(x, {"price": price, "kind": kind})


def build(weighter=None, predictor=None, losses=LOSSES, **settings):
    predictor = predictor or build_predictor()
    weighter = weighter or lw.RevisedUncertainty()
    training = lw.build_training_model(predictor, losses, weighter)
    training.compile(keras.optimizers.Adam(0.01), **settings)
    return training


def fit(training, *data, **settings):
    data = data or (X, Y)
    return training.fit(*data, **{"epochs": 2, "verbose": 0, **settings}).history


def test_pandas():
    import pandas

    history = fit(build())
    frame = pandas.DataFrame(history).filter(like="_weight")
    assert list(frame) == ["price_weight", "kind_weight"]
    np.testing.assert_allclose(frame["price_weight"], history["price_weight"])


def test_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    run = wandb.init(mode="offline", project="lossweigh", dir=tmp_path)
    history = fit(build(), callbacks=[WandbMetricsLogger()])
    for name in NAMES:
        np.testing.assert_allclose(run.summary[f"epoch/{name}"], history[name][-1])
    run.finish()


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder, no database
    import mlflow
    from mlflow.keras import MlflowCallback

    mlflow.set_tracking_uri(f"file:{tmp_path}")
    mlflow.set_experiment("lossweigh")
    with mlflow.start_run() as run:
        history = fit(build(), callbacks=[MlflowCallback(log_every_epoch=True)])
    logged = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
    for name in NAMES:
        np.testing.assert_allclose(logged[name], history[name][-1], rtol=1e-6)


def test_keras_tuner(tmp_path):
    import keras_tuner

    def hyper(parameters):
        weight = parameters.Float("price", 0.01, 10.0, sampling="log")
        return build(lw.FixedWeights({"price": weight, "kind": 1.0}))

    tuner = keras_tuner.RandomSearch(
        hyper,
        objective=keras_tuner.Objective("val_price_loss", "min"),
        max_trials=3,
        seed=0,
        directory=tmp_path,
    )
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    scores = [trial.score for trial in tuner.oracle.get_best_trials(3)]
    assert len(set(scores)) == 3
    assert scores == sorted(scores)
    best = tuner.get_best_models()[0]
    assert isinstance(best, lw.TrainingModel)
    np.testing.assert_allclose(
        best.evaluate(X, Y, return_dict=True, verbose=0)["price_loss"],
        scores[0],
        rtol=1e-4,
    )


def test_optuna():
    import optuna

    def objective(trial):
        weight = trial.suggest_float("price", 0.01, 10.0, log=True)
        name = trial.suggest_categorical("weighter", ["fixed", "DWA"])
        fixed = lw.FixedWeights({"price": weight, "kind": 1.0})
        training = build(fixed if name == "fixed" else lw.DWA())
        history = fit(training, validation_data=(X, Y))
        return history["val_price_loss"][-1], history["val_kind_loss"][-1]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(0)
    )
    study.optimize(objective, n_trials=3)
    assert len(study.trials) == 3
    assert study.best_trials


def test_datasets():
    import datasets

    table = {"x": list(X), "price": list(Y["price"]), "kind": Y["kind"]}
    data = datasets.Dataset.from_dict(table).to_tf_dataset(
        batch_size=32, columns=["x"], label_cols=["price", "kind"], shuffle=False
    )
    given = fit(build(), data)
    arrays = fit(build(), shuffle=False)
    for name in NAMES:
        np.testing.assert_allclose(given[name], arrays[name], rtol=1e-4)


def test_keras_hub(tmp_path):
    """A backbone from random weights, with LoRA and two heads."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=8,
    )
    backbone.enable_lora(2)
    pooled = backbone.output["pooled_output"]
    price = keras.layers.Dense(1, name="price")(pooled)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(pooled)
    predictor = keras.Model(backbone.input, {"price": price, "kind": kind})
    tokens = RANDOM.integers(50, size=(96, 8)).astype("int32")
    x = {
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens),
        "segment_ids": np.zeros_like(tokens),
    }
    frozen = [v for v in backbone.variables if not v.trainable and "seed" not in v.path]
    before = [keras.ops.convert_to_numpy(v) for v in frozen]
    history = fit(build(predictor=predictor), x, Y)
    assert history["loss"][1] < history["loss"][0]
    for variable, value in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    predictor.save(tmp_path / "predictor.keras")
    loaded = keras.saving.load_model(tmp_path / "predictor.keras")
    for name, said in predictor.predict(x, verbose=0).items():
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0)[name], said, rtol=1e-4, atol=1e-5
        )


def test_keras_rs():
    import keras_rs

    x = keras.Input((8,), name="x")
    crossed = keras_rs.layers.FeatureCross()(x)
    hidden = keras.layers.Dense(16, activation="relu")(crossed)
    outputs = {
        "price": keras.layers.Dense(1, name="price")(hidden),
        "kind": keras.layers.Dense(3, activation="softmax", name="kind")(hidden),
    }
    history = fit(build(predictor=keras.Model(x, outputs)), epochs=3)
    assert history["loss"][2] < history["loss"][0]


def test_softadapt_keeps_its_first_weights_in_a_compiled_step():
    """What docs/guides/coming-from.md says of that package's callback."""
    from softadapt.callbacks import AdaptiveLossCallback

    predictor = build_predictor()
    predictor.compile("sgd", loss=LOSSES, loss_weights={"price": 1.0, "kind": 1.0})
    callback = AdaptiveLossCallback(["price", "kind"], algorithm="loss-weighted")
    history = fit(predictor, epochs=4, callbacks=[callback])
    assert abs(float(callback.weights[0]) - 1.0) > 0.05  # its weights have moved,
    plain = np.add(history["price_loss"], history["kind_loss"])
    moved = np.abs(history["loss"] - plain) > 1e-3
    compiled = keras.backend.backend() != "torch"
    assert moved.any() != compiled  # and only where nothing is compiled they count


def test_orbax(tmp_path):
    """The whole model, with the weighter and the optimizer, goes on as it was."""
    checkpoint = keras.callbacks.OrbaxCheckpoint(tmp_path / "run", save_freq="epoch")
    training = build()
    fit(training, callbacks=[checkpoint])
    restored = keras.saving.load_model(tmp_path / "run")
    assert restored.loss_weights == training.loss_weights
    for one, other in zip(
        fit(restored, epochs=1, shuffle=False).values(),
        fit(training, epochs=1, shuffle=False).values(),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_grain():
    """A loader of rows, in batches, gives the numbers of arrays."""
    import grain

    rows = [(X[i], {name: y[i] for name, y in Y.items()}) for i in range(len(X))]
    batches = grain.MapDataset.source(rows).batch(32)
    expected = fit(build(), X, Y, epochs=1, batch_size=32, shuffle=False)
    for key, values in fit(build(), batches, epochs=1).items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-5)
