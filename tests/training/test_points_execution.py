"""Weights of points in every way in which a step runs, saved, and resumed."""

import keras
import numpy as np
import pytest
from keras import ops
from points_nets import (
    METHODS,
    ROWS,
    X,
    Y,
    assert_same,
    rows_of,
    state,
    weighing,
)

import lossweigh as lw

BACKEND = keras.backend.backend()
KINDS = ["adam", "causal"]  # the most states, and a state that isn't one by points
FIT = {"x": X, "y": Y, "batch_size": 4, "shuffle": False, "verbose": 0}


def adam(**arguments):
    return keras.optimizers.Adam(0.05, **arguments)


def numbers(training):
    variables = [*training.variables, *training.optimizer.variables]
    return [ops.convert_to_numpy(variable) for variable in variables]


WAYS = {
    "graph": {"jit_compile": False},
    "jit": {"jit_compile": True},
    "several steps": {"steps_per_execution": 2},
}
if BACKEND == "jax":  # compiles every step
    WAYS = {"several steps": {"steps_per_execution": 2}}
if BACKEND == "torch":
    WAYS = {"jit": {"jit_compile": True}}


# Torch's compiler sets off warnings that are meant for users of torch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.compiled
@pytest.mark.parametrize(
    "way",  # torch's compiler takes minutes
    [pytest.param(w, marks=[pytest.mark.long] * (BACKEND == "torch")) for w in WAYS],
)
def test_ways_of_a_step(way):
    """One branch a kind: two epochs of three steps, the last a partial one."""
    results = []
    for compiling in ({"run_eagerly": BACKEND != "jax"}, WAYS[way]):
        keras.utils.set_random_seed(0)
        of_u, of_v = (METHODS[kind][0](ROWS) for kind in KINDS)
        training = weighing(
            of_u, lw.FixedWeights(), of_v=of_v, optimizer=adam(), **compiling
        )
        training.fit(**FIT, epochs=2)
        results.append(numbers(training))
    assert_same(*results, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("method", KINDS)
def test_accumulation(method):
    """Points move in each step, the model in every second one."""
    training = weighing(
        method, lw.FixedWeights(), optimizer=adam(gradient_accumulation_steps=2)
    )
    other = weighing(method, lw.FixedWeights(), rate=0.0)
    other.prediction_model.set_weights(training.prediction_model.get_weights())
    for rows in ([0, 1, 2], [3, 4, 1]):
        for each in (training, other):
            each.train_on_batch(*rows_of(rows))
    assert_same(state(training), state(other), rtol=1e-6)


if BACKEND == "tensorflow":
    from optimized_graphs import unordered_reads

    @pytest.mark.compiled
    @pytest.mark.every_case
    @pytest.mark.parametrize("method", METHODS)
    def test_every_read_has_its_place_before_or_after_an_assignment(method):
        training = weighing(method, lw.FixedWeights())
        x, y = rows_of(np.arange(ROWS))
        assert unordered_reads(lambda: training.train_on_batch(x, y)) == []


@pytest.mark.parametrize("method", ["attention", *KINDS])
def test_saved_and_resumed_to_the_bit(method, tmp_path):
    keras.utils.set_random_seed(0)
    whole = weighing(method, optimizer=adam())
    whole.fit(**FIT, epochs=3)
    keras.utils.set_random_seed(0)
    training = weighing(method, optimizer=adam())
    training.fit(**FIT, epochs=1)
    training.save(tmp_path / "training.keras")
    resumed = keras.models.load_model(tmp_path / "training.keras")
    assert resumed.branch_losses["u"].points.layer is resumed.point_weights["u"]
    assert resumed._wiring.direct
    assert_same(state(resumed), state(training))
    resumed.fit(**FIT, initial_epoch=1, epochs=3)
    assert_same(numbers(resumed), numbers(whole))
    # And once more: what was loaded can be saved.
    resumed.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    assert_same(numbers(again), numbers(whole))


@pytest.mark.compiled
def test_interrupted_and_restored_to_the_bit(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def start():
        keras.utils.set_random_seed(0)
        return weighing("adam", optimizer=adam())

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    whole = start()
    whole.fit(**FIT, epochs=3)
    training = start()
    with pytest.raises(KeyboardInterrupt):
        training.fit(**FIT, epochs=3, callbacks=[backup(), Stop()])
    resumed = start()
    resumed.fit(**FIT, epochs=3, callbacks=[backup()])
    assert_same(numbers(resumed), numbers(whole))


# Keras's, of the parts that it looks for after one has failed.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_set_of_points(tmp_path):
    """A file of weights says for how many points they are; nothing is trained."""
    training = weighing("adam")
    training.fit(**FIT, epochs=1)
    path = tmp_path / "training.weights.h5"
    training.save_weights(path)
    other = weighing(lw.points.SelfAdaptive(ROWS - 2))
    words = r"'u' for 8 points, arrays of the shapes \[\(8,\).* It has \[\(10,\)"
    with pytest.raises(ValueError, match=f"(?s){words}"):
        other.load_weights(path)
    same = weighing("adam")
    same.load_weights(path)
    assert_same(state(same), state(training))


def test_a_clone_has_points_of_its_own():
    training = weighing("adam", lw.FixedWeights())
    training.fit(**FIT)
    clone = keras.models.clone_model(training)
    clone.set_weights(training.get_weights())
    clone.compile(keras.optimizers.SGD(0.1), advise=False)
    assert clone.point_weights["u"] is not training.point_weights["u"]
    before = state(training)
    for each in (clone, training):
        each.train_on_batch(*rows_of([0, 1, 2]))
        each.evaluate(X, Y, verbose=0)
    assert_same(state(clone), state(training), rtol=1e-6)
    assert any((a != b).any() for a, b in zip(before, state(training), strict=True))


def test_the_layer_is_seen_in_the_summary(capsys):
    training = weighing(lw.points.Causal(ROWS, 2, name="in_time"))
    training.summary()
    assert "in_time" in capsys.readouterr().out


def test_a_loop_by_hand():
    """`training(inputs, training=True)` weighs by the index, and wants one."""
    training = weighing("attention", lw.FixedWeights())
    x, y = rows_of([4, 2, 2, 9])
    inputs = {**x, "u_target": y["u"], "v_target": y["v"]}
    inputs = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    outputs = training(inputs, training=True)
    loss, of_v = (ops.convert_to_numpy(outputs[f"{n}_loss"]) for n in "uv")
    weights = ops.convert_to_numpy(training.point_weights["u"].loss_weights)
    expected = loss * weights[x["u_index"]] + of_v
    weighted = ops.convert_to_numpy(outputs["weighted_loss"])
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)
    del inputs["u_index"]
    with pytest.raises(
        ValueError, match=r"of the branch 'u' must be called on \[loss, i"
    ):
        training(inputs, training=True)
