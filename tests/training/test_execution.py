"""Every way in which Keras runs a step gives the same numbers."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import (
    FIXED,
    LOSSES,
    arrays,
    copy_of,
    fixed,
    numbers,
    sample_weights,
    sequences,
    two_heads,
)

import lossweigh as lw

pytestmark = pytest.mark.compiled

X, Y = arrays()
WEIGHTS = sample_weights()
BACKEND = keras.backend.backend()
METRICS = {"zeta": ["mae"], "alpha": ["accuracy"]}


def weighed(model, weighter=lw.LossWeighter, **compile_arguments):
    """A training model whose weight is learned."""
    training = lw.build_training_model(model, LOSSES, weighter())
    training.compile(keras.optimizers.Adam(0.05), **compile_arguments)
    return training


def three_steps(training, **arguments):
    """The logs of each step, and all variables after the last."""
    logs = []
    for _ in range(3):
        training.reset_metrics()
        step = training.train_on_batch(X, Y, return_dict=True, **arguments)
        logs.append(numbers(step))
    return logs, [ops.convert_to_numpy(variable) for variable in training.variables]


def assert_same(one, other, tolerance=1e-5):
    for mine, its in zip(one[0], other[0], strict=True):
        assert mine == pytest.approx(its, abs=tolerance)
    for mine, its in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(mine, its, atol=tolerance)


ARGUMENTS = {
    "plain": {},
    "weighted": {"class_weight": {"alpha": {1: 3.0}}, "sample_weight": WEIGHTS},
}


# Torch's compiler takes 20 s: the test below has a model that it compiles.
LONG = pytest.mark.long if BACKEND == "torch" else ()
WAYS = [("run_eagerly", name) for name in ARGUMENTS]
WAYS += [pytest.param("jit_compile", name, marks=LONG) for name in ARGUMENTS]


@functools.cache
def steps_by_default(arguments):
    """Of a model that begins as each test's first does."""
    keras.utils.set_random_seed(0)
    training = weighed(two_heads(), metrics=METRICS, jit_compile=False)
    result = three_steps(training, **ARGUMENTS[arguments])
    keras.utils.set_random_seed(0)
    return result


# Torch's compiler sets off warnings that are meant for users of torch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(("way", "arguments"), WAYS)
def test_eager_and_compiled_steps_are_equal(way, arguments):
    expected = steps_by_default(arguments)
    training = weighed(two_heads(), metrics=METRICS, **{way: True})
    assert_same(three_steps(training, **ARGUMENTS[arguments]), expected)
    weight = ops.convert_to_numpy(training.weighter.loss_weight)
    assert abs(weight - 0.5) > 1e-3  # it moved


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.no_cover  # of torch's compiler, for the most part
def test_the_gradients_have_the_weights_of_their_step():
    """Not those to which the step moved them: torch's compiler would read them anew."""
    runs = []
    for way in ("run_eagerly", "jit_compile"):
        keras.utils.set_random_seed(0)
        training = weighed(
            two_heads(), lw.RevisedUncertainty, metrics=METRICS, **{way: True}
        )
        runs.append(three_steps(training))
    assert_same(*runs)


def test_accumulated_gradients_are_keras_own():
    model = two_heads()
    native = copy_of(model)
    native.compile(
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        loss=LOSSES,
        loss_weights=FIXED,
    )
    training = lw.build_training_model(model, LOSSES, lw.FixedWeights(FIXED))
    training.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    before = native.get_weights()
    for step in range(4):
        rows = slice(2 * step, 2 * step + 4)
        y = {name: target[rows] for name, target in Y.items()}
        native.train_on_batch(X[rows], y)
        training.train_on_batch(X[rows], y)
        for one, other in zip(model.get_weights(), native.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        moved = any(
            (one != other).any()
            for one, other in zip(native.get_weights(), before, strict=True)
        )
        assert moved == (step > 0)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def test_targets_keep_their_precision(policy):
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(6, activation="tanh")(x)
    heads = {"far": layers.Dense(3)(hidden), "near": layers.Dense(3)(hidden)}
    model = keras.Model(x, heads)
    # Beyond the range of float16, and between two of its numbers.
    y = {"far": np.full((10, 3), 70000.0), "near": np.full((10, 3), 2049.0)}
    losses = dict.fromkeys(y, "mae")
    training = lw.build_training_model(model, losses, lw.LossWeighter())
    training.compile(keras.optimizers.SGD(1e-3), metrics={"far": ["mae"]})
    before = ops.convert_to_numpy(training.weighter.loss_weight)
    predicted = training.predict(X, verbose=0)
    assert keras.backend.standardize_dtype(predicted["far"].dtype) in policy
    errors = {
        name: abs(values.astype("float32") - y[name]).mean()
        for name, values in predicted.items()
    }
    logs = numbers(training.test_on_batch(X, y, return_dict=True))
    assert logs["far_loss"] == pytest.approx(errors["far"], rel=1e-6)
    assert logs["near_loss"] == pytest.approx(errors["near"], rel=1e-6)
    assert logs["far_mae"] == pytest.approx(errors["far"], rel=1e-6)

    # Float16's loss scaling finds its scale by skipping steps.
    training.fit(X, y, epochs=15, verbose=0)
    assert all(np.isfinite(array).all() for array in training.get_weights())
    after = ops.convert_to_numpy(training.weighter.loss_weight)
    assert after.dtype == before.dtype == "float32"
    assert after != before
    values = training.predict(X, verbose=0)["far"].astype("float32")
    assert values.mean() > predicted["far"].astype("float32").mean()


@pytest.mark.parametrize(
    ("policy", "where", "balancer"),
    [
        ("mixed_float16", "the model", None),
        ("mixed_float16", "the model", lw.PCGrad),
        ("mixed_float16", "a layer", lw.PCGrad),
        ("mixed_float16", "a model inside", None),
        ("mixed_float16", "a model inside", lw.PCGrad),
        ("mixed_bfloat16", "a layer", None),
        ("mixed_bfloat16", "the model", lw.PCGrad),
    ],
    indirect=["policy"],
)
def test_the_loss_is_scaled_in_float16(policy, where, balancer, tmp_path):
    """As Keras does by itself, so that gradients don't vanish."""
    if where != "the model":
        keras.config.set_dtype_policy("float32")
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(6, dtype=policy)
    if where == "a model inside":
        inner = keras.Input((4,))
        hidden = keras.Model(inner, hidden(inner))
    heads = {name: layers.Dense(1)(hidden(x)) for name in ("far", "near")}
    model = keras.Model(x, heads)
    keras.config.set_dtype_policy("float32")
    kind = keras.optimizers.LossScaleOptimizer

    def compiled(optimizer="sgd", **compiling):
        training = lw.build_training_model(
            model, dict.fromkeys(heads, "mse"), None, balancer and balancer()
        )
        # What is compiled is seen in other tests; this is about the optimizer.
        training.compile(optimizer, run_eagerly=BACKEND != "jax", **compiling)
        return training

    training = compiled()
    assert isinstance(training.optimizer, kind) == (policy == "mixed_float16")
    training.fit(X, dict.fromkeys(heads, np.zeros((len(X), 1))), verbose=0)
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras").optimizer
    assert type(loaded) is type(training.optimizer)
    if policy == "mixed_float16":
        assert not isinstance(loaded.inner_optimizer, kind)
    assert not isinstance(compiled(auto_scale_loss=False).optimizer, kind)
    by_hand = kind(keras.optimizers.SGD())
    assert compiled(by_hand).optimizer is by_hand


@pytest.mark.parametrize("balancer", [None, lw.UPGrad, lw.PCGrad])
def test_small_gradients_arrive_in_float16(balancer):
    """Below 1e-9, in the layers that the branches share: float16 ends at 6e-8."""
    moved = []
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        x = keras.Input((4,), name="x")
        shared = layers.Dense(8, dtype=policy)
        hidden = shared(x)
        heads = {}
        for name in ("far", "near"):
            small = {"kernel_initializer": keras.initializers.Constant(1e-3)}
            own = layers.Dense(8, dtype=policy, **small)(hidden)
            heads[name] = layers.Dense(1, **small)(own)
        training = lw.build_training_model(
            keras.Model(x, heads),
            dict.fromkeys(heads, "mse"),
            lw.FixedWeights(),
            balancer and balancer(),
        )
        training.compile(keras.optimizers.SGD(1e6), run_eagerly=BACKEND != "jax")
        before = shared.get_weights()[0]
        rows = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
        training.train_on_batch(rows, dict.fromkeys(heads, 1e-2 * rows[:, :1]))
        moved.append(shared.get_weights()[0] - before)
    scale = abs(moved[0]).max()
    assert scale > 0
    np.testing.assert_allclose(moved[1], moved[0], atol=0.1 * scale)


def test_padded_steps_are_skipped_in_low_precision(policy):
    x, y = arrays(steps=(5,))
    training = fixed(sequences(), metrics={"zeta": ["mae"]})
    prediction = training.predict(x, verbose=0)["zeta"].astype("float32")
    error = (prediction - y["zeta"])[x != 0]
    logs = numbers(training.test_on_batch(x, y, return_dict=True))
    assert logs["zeta_loss"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert logs["zeta_mae"] == pytest.approx(abs(error).mean(), rel=1e-5)


if BACKEND == "torch":

    def test_several_steps_in_one_execution():
        training = fixed(two_heads(), steps_per_execution=3)
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1 with"):
            training.fit(X, Y, verbose=0)

else:

    def test_several_steps_in_one_execution():
        model = two_heads()
        other = copy_of(model)
        arguments = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
        results = []
        for each, steps in ((model, 1), (other, 3)):
            training = weighed(each, metrics=METRICS, steps_per_execution=steps)
            history = training.fit(X, Y, sample_weight=WEIGHTS, **arguments).history
            results.append((history, training.get_weights()))
        (expected, weights), (history, others) = results
        assert history.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(history[name], values, atol=1e-5, err_msg=name)
        for one, same in zip(others, weights, strict=True):
            np.testing.assert_allclose(one, same, atol=1e-5)
