"""What `suggest` returns: proposals, each with its reason and its number."""

from __future__ import annotations

import dataclasses
import textwrap

import numpy as np

from lossweigh.inspection.inspection import Inspection
from lossweigh.suggestion.target_scales import Scale


@dataclasses.dataclass(frozen=True)
class Proposal:
    """One thing to do.

    Attributes:
        action: `"standardise"`, `"fixed_weights"`, `"balancer"`, `"equal_weights"` or
            `"not_finite"`.
        branches: The branches that it is about.
        number: The measured number that it rests on.
        reason: A sentence with that number.
        code: What to write, lines of Python; they need `import keras`, `import numpy
            as np` and `import lossweigh as lw`.
    """

    action: str
    branches: tuple[str, ...]
    number: float
    reason: str
    code: str

    def __str__(self) -> str:
        code = textwrap.indent(self.code, "    ")
        return f"{self.reason}\n\n{code}" if code else self.reason


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Proposals for the losses of a model. Print it to read them.

    Attributes:
        proposals: What to do, the first thing first.
        inspection: What was measured in the second half of the probe's steps.
        target_scales: Means and standard deviations of the targets that may be
            standardised, by their names in `y`.
        steps: How many steps of training the probe took.
    """

    proposals: list[Proposal]
    inspection: Inspection
    target_scales: dict[str, Scale]
    steps: int

    @property
    def actions(self) -> list[str]:
        """The proposals' actions, the first thing first."""
        return [proposal.action for proposal in self.proposals]

    def __str__(self) -> str:
        lines = [f"Measured in {self.steps} steps of training with equal weights."]
        lines += ["", str(self.inspection)]
        if self.target_scales:
            lines += ["", "Targets:"]
            width = max(map(len, self.target_scales))
            lines += [
                f"{target.ljust(width)}  mean {_range(scale.mean)}, standard deviation "
                f"{_range(scale.std)}"
                for target, scale in self.target_scales.items()
            ]
        for number, proposal in enumerate(self.proposals, start=1):
            head = f"{number}. " if len(self.proposals) > 1 else ""
            lines += ["", head + str(proposal)]
        return "\n".join(lines)

    __repr__ = __str__


def _range(values: np.ndarray) -> str:
    least, most = f"{values.min():.4g}", f"{values.max():.4g}"
    return least if least == most else f"{least} to {most}"
