"""What training warned of: kept by run, and told once a candidate."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def sentences(caught: Iterable[warnings.WarningMessage]) -> list[str]:
    """The first sentence of each different warning that lossweigh gave.

    Args:
        caught: All warnings of a run, those of other packages too.
    """
    texts = [
        re.split(r"(?<=\.)\s", str(one.message), maxsplit=1)[0]
        for one in caught
        if one.category.__module__.startswith("lossweigh.")
    ]
    return list({_without_numbers(text): text for text in reversed(texts)}.values())


def counted(outcomes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Each different warning, with the number of runs that gave it.

    Args:
        outcomes: What the runs of one candidate returned.
    """
    by_kind: dict[str, list[str]] = {}
    for outcome in outcomes:
        for text in outcome.get("warnings", []):
            by_kind.setdefault(_without_numbers(text), []).append(text)
    return tuple(
        f"{len(texts)} of {len(outcomes)} runs: {texts[0]}"
        for texts in by_kind.values()
    )


def _without_numbers(text: str) -> str:
    """Two runs give a warning with other numbers."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "0", text)
