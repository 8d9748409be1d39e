"""Packages that a comparison needs and the rest of lossweigh doesn't."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str) -> Any:
    """A module of a package that only an extra of lossweigh brings along.

    Args:
        module: Its name, such as `"scipy.stats"`.

    Raises:
        ValueError: If the package isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ValueError(
            f"A comparison needs {package}, which can't be imported ({error}). Install "
            f"it: `pip install {package}`."
        ) from None
