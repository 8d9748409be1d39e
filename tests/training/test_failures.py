"""What fails, in which words, and what the user still has afterwards."""

import keras
import numpy as np
import pytest
from nets import LOSSES, ROWS, arrays, fixed, two_heads
from refusals import fails_and_goes_on, pattern

import lossweigh as lw

X, Y = arrays()
ZETA, ALPHA = Y["zeta"], Y["alpha"]
ONES = np.ones(ROWS, "float32")


@pytest.fixture(scope="module")
def training():
    keras.utils.set_random_seed(0)
    return fixed(two_heads())


def stream(*steps):
    """A generator: what is wrong with its batches shows inside a step."""
    yield from steps


# name: arguments of fit, error, words
REFUSED_IN_A_STEP = {
    "missing name": (
        lambda: {"x": stream((X, {"zeta": ZETA})), "y": None},
        ValueError,
        "`y` must have the names ['zeta', 'alpha'] ... (missing: ['alpha'])",
    ),
    "shape of a weight": (
        lambda: {"sample_weight": {"zeta": np.ones((10, 2))}},
        ValueError,
        "`sample_weight` of the branch 'zeta' must have the shape",
    ),
}


@pytest.mark.parametrize("case", REFUSED_IN_A_STEP)
def test_refused_in_a_step(case):
    arguments, error, words = REFUSED_IN_A_STEP[case]
    fails_and_goes_on(fixed(two_heads()), arguments(), error, words)


def test_a_failed_evaluation_loses_nothing():
    training = fixed(two_heads())
    before = training.get_weights()
    with pytest.raises(ValueError, match=pattern("`y` ... (missing: ['alpha'])")):
        training.evaluate(stream((X, {"zeta": ZETA})), verbose=0)
    for one, other in zip(training.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_trained_outlives_an_error_in_the_data():
    def broken():
        yield X, Y
        yield X, Y
        raise OSError("the disk is gone")

    training = fixed(two_heads())
    before = training.get_weights()
    with pytest.raises(Exception, match="the disk is gone"):
        training.fit(broken(), shuffle=False, verbose=0)
    after = training.get_weights()
    assert all(np.isfinite(array).all() for array in after)
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    loss = training.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    history = training.fit(X, Y, batch_size=ROWS, verbose=0).history
    assert history["loss"][0] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("method", ["evaluate", "train_on_batch", "test_on_batch"])
def test_other_methods_refuse_too(training, method):
    with pytest.raises(ValueError, match=pattern("(missing: ['alpha'])")):
        getattr(training, method)(X, {"zeta": ZETA})
    with pytest.raises(ValueError, match="must not hold nan"):
        getattr(training, method)(X, {**Y, "zeta": ZETA * np.nan})
    with pytest.raises(ValueError, match="`sample_weight` may only have the names"):
        getattr(training, method)(X, Y, sample_weight={"box": ONES})


def test_compile_refuses(training):
    with pytest.raises(ValueError, match=r"`loss` must be left out: .* loss='mse'"):
        training.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"`loss_weights` must be left out: .*\[1\]"):
        training.compile("sgd", loss_weights=[1])
    # What was compiled before is in force, and the dummy loss may be given.
    assert isinstance(training.optimizer, keras.optimizers.SGD)
    assert np.isfinite(training.train_on_batch(X, Y)[0])
    other = lw.build_training_model(two_heads(), LOSSES)
    other.compile("sgd", loss=lw.ignoreLoss)
    assert np.isfinite(other.train_on_batch(X, Y)[0])


def test_a_model_must_be_compiled():
    training = lw.build_training_model(two_heads(), LOSSES)
    for call in (training.fit, training.evaluate, training.train_on_batch):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)`"):
            call(X, Y)


def test_lists_for_branches_that_are_not_all_outputs():
    training = lw.build_training_model(two_heads(), {"alpha": LOSSES["alpha"]})
    training.compile("sgd")
    of_branch = training.test_on_batch(X, [ALPHA], return_dict=True)
    for y in ([ZETA, ALPHA], {"zeta": ZETA, "alpha": ALPHA}, ALPHA):
        logs = training.test_on_batch(X, y, return_dict=True)
        assert float(logs["loss"]) == pytest.approx(float(of_branch["loss"]))
