"""How `fit`'s `(x, y, sample_weight)` become the training model's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lossweigh import _check
from lossweigh.training.array_likes import by_column
from lossweigh.training.fitted_ranks import fitted_target, fitted_weight
from lossweigh.training.input_names import InputNames, describe
from lossweigh.training.names import (
    data_names,
    index_name,
    sample_weight_name,
    target_name,
)
from lossweigh.training.point_index import taken_out


class TrainingInputs:
    """Names and checks what a training model takes; holds no tensor.

    Args:
        inputs: The training model's inputs, KerasTensors by name.
        structure: The prediction model's input structure, names at its leaves.
        outputs: The names of the prediction model's outputs, in order.
        targets: For each branch the name of its target, `None` if it has none.
        ordered: Whether the outputs' order is known. It isn't for a subclassed model
            that returns a dict: JAX sorts its keys.
        optional: The names of inputs that may be left out, or be `None`.
        with_points: The branches that have weights of points.

    Attributes:
        metric_targets: The outputs that have metrics, and no loss with a target.
    """

    def __init__(
        self,
        inputs: Mapping[str, Any],
        structure: Any,
        outputs: Sequence[str],
        targets: Mapping[str, str | None],
        *,
        ordered: bool = True,
        optional: Iterable[str] = (),
        with_points: Iterable[str] = (),
    ) -> None:
        self.optional = frozenset(optional)
        self.structure = structure
        self.outputs = list(outputs)
        self.target_of = dict(targets)
        # Lists of targets and weights are in the outputs' order, however losses came;
        # targets that aren't named as outputs follow.
        given = dict.fromkeys(name for name in targets.values() if name is not None)
        self.targets = [name for name in self.outputs if name in given]
        self.targets += [name for name in given if name not in self.outputs]
        self.ordered = ordered
        self.metric_targets: list[str] = []
        self.specs = {name: (tuple(t.shape), t.dtype) for name, t in inputs.items()}
        self.weight_names = [sample_weight_name(branch) for branch in targets]
        self.target_names = [target_name(name) for name in self.targets]
        self.index_names = {branch: index_name(branch) for branch in with_points}
        names = [*self.targets, *targets]
        self.x_names = data_names(inputs, names, self.index_names)
        self.input_names = InputNames(
            structure,
            self.optional,
            f"the inputs {self.x_names}, with the targets of {self.targets} in `y`, or "
            f"both in one list [{', '.join([*self.x_names, *self.target_names])}]",
        )

    def rank(self, name: str) -> int:
        """How many axes an input has."""
        return len(self.specs[name][0])

    def merge(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, Any]:
        """Named inputs from whatever `fit` or a data source gives.

        Args:
            x: What the prediction model takes, or that followed by the targets. A
                dict may have beside it the training model's other inputs: targets,
                sample weights, and which points a branch's rows are.
            y: Targets: by name, in the order of the outputs, or the target itself if
                there is one; before those in `x`, if it names them. A dummy where `x`
                holds the targets, or there are none.
            sample_weight: Weights by the name of a branch, or of a target for all
                its branches (some or all); in the order of the targets; or one array
                for all branches. They go before those in `x`.

        Returns:
            A dict with the prediction model's inputs, the targets, and the sample
            weights and points that were given.
        """
        named = isinstance(y, (Mapping, list, tuple))
        if not named and self._is_complete_list(x):
            x = dict(zip([*self.x_names, *self.target_names], x, strict=True))
        x, beside = self._split(x)
        targets = {target_name(t): t for t in (*self.targets, *self.metric_targets)}
        lacking = [name for name in targets if name not in beside]
        merged = {**self._named_x(x, beside), **beside}
        if lacking and y is None and len(lacking) < len(targets):
            raise ValueError(f"`x` must also have the inputs {lacking}.")
        if lacking or (targets and named):
            of_y = self._by_target("y", y, list(targets.values()))
            merged.update({name: of_y[target] for name, target in targets.items()})
        for branch, weight in self._weights(sample_weight).items():
            merged[sample_weight_name(branch)] = weight
        for name in (*self.target_names, *self.weight_names):
            if name in merged:
                fit = fitted_weight if name in self.weight_names else fitted_target
                merged[name] = fit(name, merged[name], self.specs[name][0])
        return merged

    def _is_complete_list(self, x: Any) -> bool:
        """Whether `x` is `[x, *targets]`."""
        return (
            isinstance(x, (list, tuple))
            and bool(self.targets)
            and len(x) == len(self.x_names) + len(self.targets)
            and not any(isinstance(part, (Mapping, list, tuple)) for part in x)
        )

    def _split(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """`x`, and by name what a dict has beside the prediction model's inputs."""
        x, beside = taken_out(x, self.index_names)
        if not isinstance(x, Mapping):
            return x, beside
        names = {*self.target_names, *map(target_name, self.metric_targets)}
        names.update(self.weight_names)
        beside |= {k: v for k, v in x.items() if k in names and v is not None}
        return {k: v for k, v in x.items() if k not in names}, beside

    def _named_x(self, x: Any, beside: Mapping[str, Any]) -> dict[str, Any]:
        """The prediction model's inputs: by name in one dict, or in its structure."""
        if x is None:
            raise ValueError(
                f"`x` must have the inputs {self.x_names}. Received: None."
            )
        if not isinstance(x, Mapping):
            return self.input_names.name(x)
        needed = [name for name in self.x_names if name not in self.optional]
        missing = [name for name in needed if name not in x]
        has_targets = all(name in beside for name in self.target_names)
        if not has_targets or (missing and not self.targets):
            _check.known_names("x", [n for n in x if self._is_beside(n)], self.specs)
            return self.input_names.name(x)
        _check.known_names("x", x, self.specs)
        if missing:
            raise ValueError(f"`x` must also have the inputs {missing}.")
        return {name: value for name, value in x.items() if value is not None}

    def _is_beside(self, name: str) -> bool:
        """Whether a name looks as one of an input beside the prediction model's."""
        ends = ("_sample_weight", "_index") if self.index_names else "_sample_weight"
        return name.endswith(ends) and name not in self.x_names

    def _by_target(
        self, argument: str, values: Any, targets: Sequence[str]
    ) -> dict[str, Any]:
        """Values by the target's name, all of them."""
        values = by_column(values) if len(targets) > 1 else values
        if values is None:
            raise ValueError(
                f"`{argument}` must have an array for each of the targets "
                f"{targets}. Received: {argument}=None. Pass targets as "
                f"`fit(x, {{{', '.join(f'{t!r}: ...' for t in targets)}}})`."
            )
        if isinstance(values, Mapping):
            values = _check.by_name(values)
            _check.known_names(
                argument, values, dict.fromkeys([*self.outputs, *targets])
            )
            _check.names(argument, [n for n in values if n in targets], targets)
            nothing = [name for name in targets if values[name] is None]
            if nothing:
                raise ValueError(
                    f"`{argument}` must have an array for the target {nothing[0]!r}. "
                    "Received: None. For an output without a target leave its loss out."
                )
            return {name: values[name] for name in targets}
        if isinstance(values, (list, tuple)):
            if not self.ordered and len(self.outputs) > 1:
                raise ValueError(
                    f"`{argument}` must be a dict by name, {targets}: the "
                    "prediction model returns a dict, whose order isn't known. "
                    f"Received: {describe(values)}."
                )
            for names in (self.outputs, targets):
                if len(values) == len(names) and set(targets) <= set(names):
                    named = dict(zip(names, values, strict=True))
                    return {name: named[name] for name in targets}
            raise ValueError(
                f"`{argument}` must have one array for each of the outputs "
                f"{self.outputs}, or of the targets {targets}. "
                f"Received {len(values)} arrays."
            )
        if len(targets) == 1:
            return {targets[0]: values}
        raise ValueError(
            f"`{argument}` must have one array for each of the targets "
            f"{targets}, in a dict by name or in a list in the order of the "
            f"outputs. Received: {describe(values)}."
        )

    def _weights(self, sample_weight: Any) -> dict[str, Any]:
        """Weights by branch name, of those that were given."""
        if sample_weight is None:
            return {}
        if isinstance(sample_weight, Mapping):
            sample_weight = _check.by_name(sample_weight)
            _check.known_names(
                "sample_weight",
                sample_weight,
                dict.fromkeys([*self.target_of, *self.targets]),
            )
            given = sample_weight
        elif isinstance(sample_weight, (list, tuple)):
            given = self._by_target("sample_weight", sample_weight, self.targets)
        else:
            given = dict.fromkeys(self.target_of, sample_weight)
        by_branch = {
            branch: given[branch] if branch in given else given.get(target)
            for branch, target in self.target_of.items()
        }
        return {name: value for name, value in by_branch.items() if value is not None}
