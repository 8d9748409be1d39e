"""What every loss-level method must do, over the table in `methods.py`."""

import pathlib

import fresh
import keras
import numpy as np
import pytest
from gradients import numeric_gradient, total_and_gradients
from keras import ops
from methods import (
    LOSSES,
    METHODS,
    RANDOM,
    array,
    drawn_losses,
    every_method_in_one,
    fit,
    make,
    number,
    rows,
    state,
    step,
    train,
    weighters,
    weights,
)

import lossweigh as lw

every_method = pytest.mark.parametrize("name", METHODS)


def test_the_table_holds_every_weighter():
    public = [getattr(lw, name) for name in lw.__all__]
    found = {
        thing.__name__
        for thing in public
        if isinstance(thing, type) and issubclass(thing, lw.Weighter)
    }
    assert found - {"Weighter"} == set(METHODS)
    assert set(lw.weighting.__all__) == found


# Values and gradients -----------------------------------------------------------


@pytest.mark.smoke
@every_method
def test_value_before_training(name):
    total = step(make(name), *LOSSES, training=False)
    assert total == pytest.approx(METHODS[name].before, abs=1e-5)


@every_method
@pytest.mark.parametrize("num_branches", [1, 2, 32])
def test_number_of_branches(name, num_branches):
    weighter = make(name)
    train(weighter, drawn_losses(5, num_branches))
    got = weights(weighter)
    assert got.shape == (num_branches,)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert (got > 0).all()
    sums = {"one": 1, "number": num_branches, None: got.sum()}
    assert got.sum() == pytest.approx(sums[METHODS[name].sums_to], rel=1e-4)


@pytest.mark.smoke
@every_method
def test_the_gradient_of_the_losses_is_the_loss_weights(name):
    weighter = make(name)
    train(weighter, drawn_losses())
    losses = np.array([[0.5, 0.7], [1.0, 3.0], [0.2, 0.1]])
    total, gradients = total_and_gradients(weighter, losses)
    expected = np.repeat(weights(weighter)[:, None] / 2, 2, axis=1)
    np.testing.assert_allclose(gradients, expected, rtol=1e-5)
    assert np.isfinite(total)


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.differentiable]
)
def test_the_gradient_is_that_of_the_total(name):
    weighter = make(name)
    losses = np.array(LOSSES)
    _, gradients = total_and_gradients(weighter, np.tile(losses[:, None], 2))
    numeric = numeric_gradient(
        lambda some: step(make(name), *some, training=False), losses, 1e-2
    )
    np.testing.assert_allclose(gradients.sum(axis=1), numeric, atol=1e-3)


@every_method
def test_permuting_branches_permutes_weights(name):
    losses, order = drawn_losses(num_steps=6), np.array([2, 0, 1])
    one, other = make(name), make(name)
    train(one, losses)
    train(other, losses[:, order])
    if name in RANDOM:  # drawn for the place, not for the branch
        np.testing.assert_array_equal(weights(one), weights(other))
    else:
        np.testing.assert_allclose(weights(one)[order], weights(other), rtol=1e-4)


# State --------------------------------------------------------------------------


@pytest.mark.smoke
@every_method
def test_state_moves_in_training_alone(name):
    weighter = make(name)
    train(weighter, drawn_losses())
    before = state(weighter)
    step(weighter, 0.3, 0.9, 2.0, training=False)
    for path, value in state(weighter).items():
        np.testing.assert_array_equal(value, before[path])
    step(weighter, 0.3, 0.9, 2.0)
    moved = any(
        (state(weighter)[path] != value).any() for path, value in before.items()
    )
    assert moved == METHODS[name].moves


@every_method
@pytest.mark.parametrize("absent", [0.0, np.nan, np.inf])
def test_an_absent_branch_moves_none_of_its_state(name, absent):
    weighter = make(name)
    train(weighter, drawn_losses())
    before = state(weighter)
    total = step(weighter, 0.3, absent, 2.0)
    assert np.isfinite(total) == np.isfinite(absent)
    for path, value in state(weighter).items():
        assert np.isfinite(value).all(), path
        if value.shape[:1] == (3,):
            np.testing.assert_array_equal(value[1], before[path][1], err_msg=path)


@every_method
def test_a_batch_without_any_label_moves_nothing(name):
    weighter = make(name)
    train(weighter, drawn_losses())
    before = state(weighter)
    assert step(weighter, 0, 0, 0) == 0
    for path, value in state(weighter).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.drops_out]
)
def test_an_absent_branch_adds_nothing(name):
    total = step(make(name), 1, 0, 4, training=False)
    assert total == pytest.approx(step(make(name), 1, 4, training=False), abs=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if make(name).needs_positive_losses]
)
def test_a_negative_loss_moves_none_of_its_state(name):
    weighter = make(name)
    train(weighter, drawn_losses())
    before = state(weighter)
    assert np.isfinite(step(weighter, 0.3, -1.0, 2.0))
    for path, value in state(weighter).items():
        if value.shape[:1] == (3,):
            np.testing.assert_array_equal(value[1], before[path][1], err_msg=path)


@every_method
def test_finite_from_0_to_1e10(name):
    weighter = make(name)
    extremes = [0.0, 1e-30, 1.0, 1e10]
    for shift in range(9):
        total = step(weighter, *np.roll(extremes, shift))
        weighter.end_epoch()
        assert np.isfinite(total), shift
        for path, value in state(weighter).items():
            assert np.isfinite(value).all(), (shift, path)


@every_method
def test_freeze_and_unfreeze(name):
    weighter = make(name)
    losses = drawn_losses(num_steps=8)
    train(weighter, losses[:4])
    weighter.freeze()
    before, held = state(weighter), weights(weighter)
    total = step(weighter, *losses[4])
    weighter.end_epoch()
    step(weighter, *losses[5], training=False)
    np.testing.assert_array_equal(weights(weighter), held)
    if name != "LossWeighter":  # which adds its barrier
        assert total == pytest.approx(np.dot(held, losses[4]), rel=1e-5)
    for path, value in state(weighter).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)
    weighter.unfreeze()
    train(weighter, losses[6:])
    assert (weights(weighter) != held).any() == METHODS[name].moves


# At the door --------------------------------------------------------------------


@every_method
def test_wrong_shapes(name):
    with pytest.raises(ValueError, match=rf"{name} must be called on branch losses of"):
        make(name)([ops.ones((4, 3)), ops.ones((4,))])
    with pytest.raises(ValueError, match=rf"{name} must .* the same number of samples"):
        make(name)([ops.ones((4,)), ops.ones((3,))])


@every_method
def test_no_losses(name):
    with pytest.raises(
        ValueError, match=rf"{name} must be .* at least one branch loss"
    ):
        make(name)([])


@every_method
def test_columns_are_taken_too(name):
    columns = [ops.reshape(row, (2, 1)) for row in rows(*LOSSES)]
    total = number(ops.mean(make(name)(columns)))
    assert total == pytest.approx(METHODS[name].before, abs=1e-5)


@every_method
def test_other_branches(name):
    weighter = make(name)
    weighter.bind(["a", "b"], ["regression"] * 2)
    with pytest.raises(ValueError, match="can't weigh"):
        weighter.bind(["a", "c"], ["regression"] * 2)
    with pytest.raises(ValueError, match=r"on 2 losses. Received 3"):
        weighter(rows(1, 2, 3))


OUT_OF_RANGE = [
    ("DWA", {"temperature": 0}, "`temperature` must be greater than 0"),
    ("FAMO", {"learning_rate": 0}, "`learning_rate` must be greater than 0"),
    ("FAMO", {"weight_decay": -1}, "`weight_decay` must be at least 0"),
    ("FAMO", {"ideal_losses": [np.nan]}, "`ideal_losses` must hold finite num"),
    ("FixedWeights", {"weights": [-1, 2]}, "`weights` must hold finite numbers of"),
    ("FixedWeights", {"weights": [0, 0]}, "at least one number greater than 0"),
    ("IMTLL", {"learning_rate": -1}, "`learning_rate` must be greater than 0"),
    ("LossWeighter", {"barrier": -1}, "`barrier` must be at least 0"),
    ("LossWeighter", {"min_weight": 2}, "`min_weight` must be between 0 and 1"),
    ("LossWeighter", {"initial_weights": [-1]}, "`initial_weights` must hold finite"),
    ("ReLoBRaLo", {"momentum": 1.1}, "`momentum` must be between 0 and 1"),
    (
        "ReLoBRaLo",
        {"keep_probability": -0.1},
        "`keep_probability` must be between 0",
    ),
    ("ReLoBRaLo", {"temperature": 0}, "`temperature` must be greater than 0"),
    ("RevisedUncertainty", {"learning_rate": 0}, "`learning_rate` must be greater"),
    ("SmoothTchebycheff", {"smoothing": 0}, "`smoothing` must be greater than 0"),
    ("SmoothTchebycheff", {"preferences": [-1]}, "`preferences` must hold finite"),
    ("SmoothTchebycheff", {"ideal_losses": []}, "`ideal_losses` must hold finite"),
    ("SoftAdapt", {"beta": np.inf}, "`beta` must be finite"),
    ("SoftAdapt", {"variant": "best"}, "`variant` must be one of 'loss_weighted'"),
    ("SoftAdapt", {"window": 1}, "`window` must be a whole number of at least 2"),
    ("SoftAdapt", {"window": 2.5}, "`window` must be a whole number of at least 2"),
    ("SoftOptimalUncertainty", {"temperature": -1}, "`temperature` must be greater"),
    ("SumToOne", {"barrier": -0.5}, "`barrier` must be at least 0"),
    ("SumToOne", {"learning_rate": 0}, "`learning_rate` must be greater than 0"),
    ("Uncertainty", {"learning_rate": 0}, "`learning_rate` must be greater than 0"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), OUT_OF_RANGE)
def test_hyper_parameters_out_of_range(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(lw, name)(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("DWA", {"temperature": "hot"}),
        ("FAMO", {"ideal_losses": 3}),
        ("SmoothTchebycheff", {"ideal_losses": {"a": "high"}}),
        ("SmoothTchebycheff", {"preferences": "ab"}),
    ],
)
def test_hyper_parameters_of_a_wrong_type(name, arguments):
    with pytest.raises(TypeError, match=f"`{next(iter(arguments))}` must be a"):
        getattr(lw, name)(**arguments)


@every_method
def test_config(name):
    weighter = make(name, name="mine")
    weighter.bind(["a", "b"], ["regression", "classification"])
    again = type(weighter).from_config(weighter.get_config())
    assert again.get_config() == weighter.get_config()
    assert (again.branches, again.inferred_task_types) == (
        weighter.branches,
        weighter.inferred_task_types,
    )


# Inside a model -----------------------------------------------------------------


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
def test_float32_whatever_the_policy(policy):
    for name in METHODS:
        weighter = make(name)
        train(weighter, drawn_losses(num_branches=2) * 1e6)  # beyond float16
        total = weighter(rows(1e6, 2e6), training=True)
        assert keras.backend.standardize_dtype(total.dtype) == "float32", name
        for variable in weighter.variables:
            if "seed" not in variable.path:
                assert variable.dtype == "float32", variable.path
        assert np.isfinite(array(total)).all(), name


@pytest.mark.smoke
@pytest.mark.compiled
def test_a_compiled_step():
    model = every_method_in_one()
    # torch's compiler takes minutes; there the eager step is the compiled one.
    jit = keras.backend.backend() != "torch"
    model.compile("adam", loss=lw.ignoreLoss, jit_compile=jit)
    before = [state(weighter) for weighter in weighters(model)]
    history = fit(model, epochs=2).history
    assert np.isfinite(history["loss"]).all()
    for weighter, past in zip(weighters(model), before, strict=True):
        moved = any((state(weighter)[path] != past[path]).any() for path in past)
        assert moved or weighter.name == "fixedweights", weighter.name


@pytest.mark.smoke
@every_method
@pytest.mark.filterwarnings("ignore:The loss weight of the branch")
def test_in_a_training_model(name):
    x = keras.Input((2,), name="x")
    heads = {key: keras.layers.Dense(1, name=key)(x) for key in ("b", "a")}
    training = lw.build_training_model(
        keras.Model(x, heads), dict.fromkeys(heads, "mse"), make(name, name="weighter")
    )
    training.compile("adam", run_eagerly=True)
    lines = []
    training.summary(print_fn=lambda line, **kwargs: lines.append(line))
    assert "weighter" in "\n".join(lines)
    data = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    targets = {key: np.ones((4, 1), "float32") for key in heads}
    training.fit(data, targets, batch_size=2, epochs=3, verbose=0)
    got = np.array([training.epoch_means[f"{head}_weight"] for head in ("b", "a")])
    assert np.isfinite(got).all()
    # The model's optimizer trains the rule that is named for it, and no other.
    own = [variable.path for variable in training.weighter.trainable_variables]
    assert own == (["weighter/loss_weight"] if name == "LossWeighter" else [])


@pytest.mark.compiled
def test_freeze_in_mid_training():
    """By a callback through `self.model`, after the third epoch, for two."""

    class Freeze(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_epoch_begin(self, epoch, logs=None):
            for weighter in weighters(self.model):
                if epoch == 3:
                    weighter.freeze()
                if epoch == 5:
                    weighter.unfreeze()

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append({w.name: weights(w) for w in weighters(self.model)})

    model = every_method_in_one()
    model.compile(keras.optimizers.Adam(0.05), loss=lw.ignoreLoss)
    freeze = Freeze()
    fit(model, epochs=6, callbacks=[freeze])
    first, second, third, fourth = freeze.seen[2:]
    for name in first:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)
        np.testing.assert_array_equal(third[name], first[name], err_msg=name)
        moved = (fourth[name] != third[name]).any()
        assert moved or name == "fixedweights", name


RESUME = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "__array__", DeprecationWarning)  # as in setup.cfg
import keras
import numpy as np
sys.path.insert(0, sys.argv[1])
from methods import fit
model = keras.models.load_model(sys.argv[2])
fit(model, epochs=4, initial_epoch=2)
np.savez(sys.argv[3], *[np.array(keras.ops.convert_to_numpy(v)) for v in
                        [*model.variables, *model.optimizer.variables]])
"""


@pytest.mark.compiled
def test_resumed_training_is_uninterrupted_training(tmp_path):
    """Saved after epoch 2, loaded in a fresh process, trained to epoch 4."""
    uninterrupted = every_method_in_one()
    uninterrupted.compile("adam", loss=lw.ignoreLoss)
    fit(uninterrupted, epochs=2)
    uninterrupted.save(tmp_path / "model.keras")
    fit(uninterrupted, epochs=4, initial_epoch=2)

    here = pathlib.Path(__file__).parent
    fresh.run(RESUME, here, tmp_path / "model.keras", tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        resumed = [file[key] for key in file.files]
    variables = [*uninterrupted.variables, *uninterrupted.optimizer.variables]
    assert len(resumed) == len(variables)
    for variable, value in zip(variables, resumed, strict=True):
        np.testing.assert_array_equal(array(variable), value, err_msg=variable.path)


@pytest.mark.parametrize("weighter", [lw.RandomWeights, lw.ReLoBRaLo])
@pytest.mark.parametrize(("seed", "error"), [("x", TypeError), (-1, ValueError)])
def test_a_seed_is_a_whole_number(weighter, seed, error):
    with pytest.raises(error, match="`seed` must be a"):
        weighter(seed=seed)
