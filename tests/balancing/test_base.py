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
