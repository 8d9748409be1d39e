"""Fills the pages of the reference, and links names to them.

Two comments in a page are replaced:

- `<!-- all of lossweigh.weighting -->` by an entry for each public name of that package
  that the page doesn't name itself,
- `<!-- table -->` by a table of the page's entries, one line each.

In every page a name in code font, such as `UPGrad` or `lw.UPGrad()`, is a link to its
entry.
"""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^::: ([\w.]+)$", re.M)
ALL_OF = re.compile(r"<!-- all of ([\w.]+) -->")
# What isn't searched for names, or a name in code font.
CODE = re.compile(
    r"<(pre|a|h[1-6]|autoref)\b.*?</\1>|<code>((?:\w+\.)*\w+)(?:\(\))?</code>", re.S
)


@functools.cache
def source(module):
    """The parsed file of a module, or of a package."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module):
    """The module that each name in a module is imported from."""
    imports = [node for node in source(module).body if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: node.module
        for node in imports
        for alias in node.names
    }


@functools.cache
def public():
    """The package that each public name comes from, by the name's path."""
    packages = {}
    for name, module in imported("lossweigh").items():
        if module == "lossweigh":  # `lw.losses` and the like
            inner = f"lossweigh.{name}"
            packages.update({f"{inner}.{x}": inner for x in imported(inner)})
        elif not name.startswith("_"):
            packages[f"lossweigh.{name}"] = module
    return packages


def docstring(path):
    module, name = path.rsplit(".", 1)
    origins = imported(module)
    if name in origins:
        return docstring(f"{origins[name]}.{name}")
    nodes = source(module).body
    return ast.get_docstring(next(n for n in nodes if getattr(n, "name", "") == name))


def entry(path):
    """The path of a public name's entry: in full, if its module has the same name."""
    module, name = path.rsplit(".", 1)
    while name in imported(module):
        module = imported(module)[name]
    return f"{module}.{name}" if module.endswith(f".{name}") else path


@functools.cache
def links():
    """The path of an entry by what a page may write for it."""
    names = {}
    for path in public():
        parts = path.split(".")
        for start in range(len(parts)):
            names.setdefault(".".join(parts[start:]), entry(path))
        names.setdefault(".".join(["lw", *parts[1:]]), entry(path))
    return names


def entries_of(package, without):
    paths = {path for path, its in public().items() if its == package}
    return sorted(paths - set(without), key=str.lower)


def table(entries):
    lines = ["| | |", "|---|---|"]
    for path in entries:
        first = docstring(path).split("\n\n")[0].replace("\n", " ")
        lines.append(f"| [`{path.split('.')[-1]}`][{path}] | {first} |")
    return "\n".join(lines)


def on_page_markdown(markdown, **kwargs):
    named = ENTRY.findall(markdown)

    def listed(match):
        return "\n\n".join(f"::: {path}" for path in entries_of(match[1], named))

    markdown = ALL_OF.sub(listed, markdown)
    return markdown.replace("<!-- table -->", table(ENTRY.findall(markdown)))


def linked(match):
    name = match[2] or ""
    path = links().get(name)
    if name.startswith("training."):
        path = f"lossweigh.TrainingModel.{name.removeprefix('training.')}"
    if path is None:
        return match[0]
    # `optional`: what has no entry stays as it is.
    return f'<autoref optional identifier="{path}">{match[0]}</autoref>'


def on_page_content(content, **kwargs):
    # An empty dash begins what is returned, if it has no name.
    content = re.sub(
        r'(<li class="doc-section-item field-body">)\s*\u2013', r"\1", content
    )
    return CODE.sub(linked, content)
