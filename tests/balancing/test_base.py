"""What is common to all balancers: the level, how often, and what a file keeps."""

import pytest

import lossweigh as lw

NAMES = [name for name in lw.balancing.__all__ if name != "Balancer"]
USUAL = {"GradVac": ("parameters", 10), "PCGrad": ("parameters", 10)}


def setting(balancer):
    return balancer.level, balancer.update_every


@pytest.mark.parametrize("name", NAMES)
def test_without_a_level(name):
    """What the docs promise; and a file keeps it, whatever is usual later."""
    balancer = getattr(lw, name)()
    assert setting(balancer) == USUAL.get(name, ("representation", 1))
    config = balancer.get_config()
    assert (config["level"], config["update_every"]) == setting(balancer)
    assert setting(type(balancer).from_config(config)) == setting(balancer)


@pytest.mark.parametrize("name", ["MGDA", "PCGrad"])
def test_with_a_level(name):
    """The same for all methods."""
    make = getattr(lw, name)
    assert setting(make(level="representation")) == ("representation", 1)
    assert setting(make(level="parameters")) == ("parameters", 1)
    assert setting(make(level="calibrated")) == ("calibrated", 25)
    assert setting(make(level="calibrated", update_every=3)) == ("calibrated", 3)


def test_only_how_often():
    assert setting(lw.PCGrad(update_every=3)) == ("parameters", 3)


def test_refusals():
    with pytest.raises(ValueError, match=r"`level` must be one of .*'exact'"):
        lw.UPGrad(level="exact")
    with pytest.raises(ValueError, match=r"`update_every` must be .*0"):
        lw.UPGrad(level="parameters", update_every=0)
    with pytest.raises(ValueError, match="left out at the representation"):
        lw.UPGrad(update_every=10)
    with pytest.raises(ValueError, match="left out at the representation"):
        lw.PCGrad(level="representation", update_every=10)


@pytest.mark.parametrize(
    ("balancer", "argument"),
    [
        (lw.UPGrad(preference=[1, 2, 3]), "preference"),
        (lw.DualProj(preference=[1, 2, 3]), "preference"),
        (lw.AlignedMTL(preference=[1]), "preference"),
        (lw.NormBalancer(shares=[1, 2, 3]), "shares"),
    ],
)
def test_arguments_for_another_number_of_branches(balancer, argument):
    """Said when the model is built, not in its first step."""
    with pytest.raises(
        ValueError, match=rf"`{argument}` must hold one number for each"
    ):
        balancer.bind(["a", "b"])
    assert balancer.branches is None


@pytest.mark.parametrize(("seed", "error"), [("x", TypeError), (-1, ValueError)])
def test_a_seed_is_a_whole_number(seed, error):
    with pytest.raises(error, match="`seed` must be a"):
        lw.PCGrad(seed=seed)
