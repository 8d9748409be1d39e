"""Names of the training model's inputs."""

from __future__ import annotations

from collections.abc import Iterable


def target_name(target: str) -> str:
    """The name of the input that takes a target; most are named as their output."""
    return layer_name(f"{target}_target")


def sample_weight_name(branch: str) -> str:
    """The name of the optional input that takes a branch's sample weights."""
    return layer_name(f"{branch}_sample_weight")


def index_name(branch: str) -> str:
    """The name of the input that says which points a branch's rows are."""
    return layer_name(f"{branch}_index")


def layer_name(name: str) -> str:
    """A name as a layer may have it: an output's may have a `/`, and a layer's not."""
    return name.replace("/", "_")


def data_names(
    inputs: Iterable[str], names: Iterable[str], with_points: Iterable[str] = ()
) -> list[str]:
    """The names of a training model's inputs that are the prediction model's.

    Args:
        inputs: The names of all inputs.
        names: The names of the branches and of the targets.
        with_points: The names of the branches that have weights of points.
    """
    taken = {f(name) for name in names for f in (target_name, sample_weight_name)}
    taken |= {index_name(branch) for branch in with_points}
    return [name for name in inputs if name not in taken]
