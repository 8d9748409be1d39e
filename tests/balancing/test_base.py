"""What is common to all balancers: the level, how often, and what a file keeps."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import lossweigh as lw

NAMES = [name for name in lw.balancing.__all__ if name != "Balancer"]
OTHERS = {
    "GradVac": lw.Parameters(update_every=10),
    "PCGrad": lw.Parameters(update_every=10),
}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_level(name):
    """What the docs promise; and a file keeps it, whatever is usual later."""
    balancer = getattr(lw, name)()
    assert balancer.level == OTHERS.get(name, lw.Representation())
    config = json.loads(json.dumps(balancer.get_config()))
    assert type(balancer).from_config(config).level == balancer.level


@pytest.mark.parametrize("name", ["MGDA", "PCGrad"])
def test_a_level_by_name(name):
    """The usual one of each kind, the same for all methods."""
    make = getattr(lw, name)
    assert make(level="representation").level == lw.Representation()
    assert make(level="parameters").level == lw.Parameters(update_every=1)
    assert make(level="calibrated").level == lw.Calibrated(update_every=25)
    level = lw.Calibrated(update_every=3)
    assert make(level=level).level == level


def test_levels_are_told_apart():
    assert lw.Parameters() != lw.Parameters(update_every=2)
    assert lw.Parameters() != lw.Calibrated(update_every=1)
    assert lw.Representation(layers="neck") == lw.Representation(layers=["neck"])
    assert len({lw.Parameters(), lw.Parameters(update_every=1)}) == 1


def test_described():
    assert repr(lw.MGDA()) == "MGDA(level=Representation(), normalization=None)" or (
        "level=Representation()" in repr(lw.MGDA())
    )
    shown = repr(lw.UPGrad(level=lw.Calibrated(), preferences=[1, 2]))
    assert shown.startswith("UPGrad(level=Calibrated(update_every=25), ")
    assert "preferences=[1" in shown


def test_saved_by_keras():
    """A balancer is an object like any that Keras serialises."""
    balancer = lw.NormBalancer(level=lw.Representation(layers=["neck"]), momentum=0.5)
    text = json.dumps(keras.saving.serialize_keras_object(balancer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert repr(again) == repr(balancer)


def test_refusals():
    with pytest.raises(ValueError, match=r"`level` must be one of .*'exact'"):
        lw.UPGrad(level="exact")
    with pytest.raises(TypeError, match=r"`level` must be a level, such as .*Param"):
        lw.UPGrad(level=lw.Parameters)
    with pytest.raises(ValueError, match=r"`update_every` must be .*0"):
        lw.Parameters(update_every=0)
    with pytest.raises(TypeError, match=r"`update_every` must be "):
        lw.Calibrated(update_every="often")


@pytest.mark.parametrize("layers", [[], (), 3, [3]])
def test_layers_must_be_names(layers):
    with pytest.raises(TypeError, match="`layers` must be the name of a layer or a l"):
        lw.Representation(layers=layers)


@pytest.mark.parametrize(
    ("balancer", "argument"),
    [
        (lw.UPGrad(preferences=[1, 2, 3]), "preferences"),
        (lw.DualProj(preferences=[1, 2, 3]), "preferences"),
        (lw.AlignedMTL(preferences=[1]), "preferences"),
        (lw.NormBalancer(preferences=[1, 2, 3]), "preferences"),
    ],
)
def test_arguments_for_another_number_of_branches(balancer, argument):
    """Said when the model is built, not in its first step."""
    with pytest.raises(
        ValueError, match=rf"`{argument}` must hold one number for each"
    ):
        balancer.set_branches(["a", "b"])
    assert balancer.branches is None


def test_preferences_by_name():
    """In whatever order; another set of names is refused, and changes nothing."""
    gramian = np.diag([1.0, 4.0]).astype("float32")
    for method in (lw.UPGrad, lw.DualProj, lw.AlignedMTL, lw.NormBalancer):
        named = method(preferences={"b": 3.0, "a": 1.0})
        named.set_branches(["a", "b"])
        again = method.from_config(named.get_config())
        expected = ops.convert_to_numpy(method(preferences=[1, 3]).solve(gramian))
        for balancer in (named, again):
            found = ops.convert_to_numpy(balancer.solve(gramian))
            np.testing.assert_allclose(found, expected)
        other = method(preferences={"a": 1.0, "c": 3.0})
        with pytest.raises(ValueError, match=r"`preferences` must have"):
            other.set_branches(["a", "b"])
        assert other.branches is None
        with pytest.raises(ValueError, match="need branches with names"):
            other.solve(gramian)


@pytest.mark.parametrize(("seed", "error"), [("x", TypeError), (-1, ValueError)])
def test_a_seed_is_a_whole_number(seed, error):
    with pytest.raises(error, match="`seed` must be a"):
        lw.PCGrad(seed=seed)
