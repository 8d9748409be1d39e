"""`python -m lossweigh compare module:function`: a comparison from the command line."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweigh.comparison import compare
from lossweigh.comparison.extras import need


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status, 2 if it was given something wrong.

    An error in the code of the user is raised, so that it shows where it is.

    Args:
        arguments: What follows `python -m lossweigh`. Default: those of the process.
    """
    options = _options(arguments)
    try:
        given = _arguments_from(options.function)
        chosen = {
            "folder": options.folder,
            "seeds": options.seeds,
            "budget": options.budget,
            "n_jobs": options.jobs,
        }
        given.update({name: v for name, v in chosen.items() if v is not None})
        _check_arguments(options.function, given)
        if options.html:
            _check_report(options.html)
        comparison = compare(**given)
        print(comparison)
        if options.html:
            comparison.to_html(options.html)
    except (TypeError, ValueError) as error:
        if not _is_worded(error):
            raise
        print(f"lossweigh compare: {error}", file=sys.stderr)
        return 2
    return 0


def _is_worded(error: BaseException) -> bool:
    """Whether lossweigh raised an error, and no code of the user was part of it."""
    files = [
        Path(frame.f_code.co_filename)
        for one in (error, error.__cause__)
        if one is not None
        for frame, _ in traceback.walk_tb(one.__traceback__)
    ]
    ours = Path(__file__).parent
    paths = sysconfig.get_paths()
    libraries = [ours, *(Path(paths[key]) for key in ("purelib", "platlib", "stdlib"))]
    return all(
        "<" in file.name or any(file.is_relative_to(folder) for folder in libraries)
        for file in files
    )


def _check_report(path: Path) -> None:
    """Refuses a report that couldn't be written when all has been run."""
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"`--html` must be a file in a folder that exists. There is no folder "
            f"{path.parent}."
        )
    need("matplotlib.figure")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lossweigh")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="compare weightings on a model and data of yours",
        description="Calls a function that returns the arguments of lossweigh.compare "
        "in a dict, compares, and prints the table.",
    )
    command.add_argument("function", metavar="module:function")
    command.add_argument("--folder", type=Path, help="where runs are kept, to go on")
    command.add_argument("--seeds", type=int, metavar="N", help="how many seeds")
    command.add_argument("--budget", type=int, metavar="N", help="epochs of a run")
    command.add_argument("--jobs", type=int, metavar="N", help="runs at a time")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a report")
    return parser.parse_args(arguments)


def _arguments_from(name: str) -> dict[str, Any]:
    """What the function `module:function` returns, a dict of arguments."""
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise ValueError(
            "The function must be written as `module:function`, such as "
            f"`experiments:compared`. Received: {name!r}."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise
        raise ValueError(
            f"There is no module {error.name!r} in {Path.cwd()} or on the Python path."
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(
            f"The module {module_name!r} has no function {function_name!r}."
        )
    given = function()
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{name} must return a dict with the arguments of `lossweigh.compare`, "
            f"such as build, data and metric. It returned: {type(given).__name__}."
        )
    return dict(given)


def _check_arguments(name: str, given: Mapping[str, Any]) -> None:
    """Refuses what `compare` doesn't take, and the lack of what it needs."""
    parameters = inspect.signature(compare).parameters
    unknown = [argument for argument in given if argument not in parameters]
    needed = [
        argument
        for argument, about in parameters.items()
        if about.default is about.empty and argument not in given
    ]
    if unknown or needed:
        raise ValueError(
            f"{name} must return the arguments of `lossweigh.compare`, which are "
            f"{list(parameters)}. Unknown: {unknown}. Missing: {needed}."
        )


if __name__ == "__main__":
    sys.exit(main())
