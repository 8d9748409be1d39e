"""Imports point one way, private Keras stays in one file, and names are kept."""

import ast
import inspect
import pathlib

import keras
import pytest

import lossweigh

pytestmark = pytest.mark.once

PACKAGE = pathlib.Path(lossweigh.__file__).parent

# What each part of the package may import from the package; itself goes without
# saying, except that methods don't know each other.
ARROWS = {
    "_check": set(),
    "_files": set(),
    "_row_files": {"_files"},
    "_state": set(),
    "_types": set(),
    "_version": set(),
    "_compat": {"_backend"},
    "_backend": set(),
    "_replicas": {"_backend"},
    "_structure": {"_compat"},
    "constraints": {"_check"},
    "points": {"_backend", "_check", "_replicas", "_state", "_types"},
    "branches": {"_backend", "_check", "_compat", "_replicas", "_types", "points"},
    "weighting": {
        "_check",
        "_backend",
        "_replicas",
        "_state",
        "_types",
        "constraints",
    },
    "balancing": {"_check", "_backend", "_state", "_types"},
    "layers": {"_check", "_compat", "_backend", "_structure", "_types"},
    "gradients": {"_compat", "_backend", "_replicas", "_structure", "balancing"},
    "inspection": {"_backend", "_structure", "gradients", "plots"},
    "callbacks": {"_check", "_compat", "_files", "_row_files", "weighting"},
    "training": {
        "_check",
        "_compat",
        "_backend",
        "_files",
        "_replicas",
        "_structure",
        "_version",
        "balancing",
        "branches",
        "callbacks",
        "gradients",
        "inspection",
        "points",
        "weighting",
    },
    "suggestion": {
        "_check",
        "_compat",
        "_backend",
        "branches",
        "inspection",
        "training",
    },
    # Nothing imports it but the command line.
    "comparison": {
        "_backend",
        "_check",
        "_version",
        "_compat",
        "_structure",
        "balancing",
        "training",
        "weighting",
    },
    "__main__": {"comparison"},
    "losses": {"_check", "_compat", "_backend", "_replicas", "_types", "branches"},
    "metrics": {"_check", "_compat", "branches", "losses"},
    "plots": {"_row_files"},
}
BASES = {
    "weighting": {"base", "adaptive", "learned", "_combining", "_shown"},
    "points": {"base", "_point_losses"},
    "balancing": {"base", "_cosines", "_solvers", "levels", "site"},
    "losses": {"_series", "_shapes", "_steps", "distances", "miners"},
}


LONGEST = 250  # lines of a file
BACKENDS = {"tensorflow", "jax", "torch"}
# A name can be searched for and means one thing. These mean anything.
EMPTY_NAMES = {"found", "here", "made", "own", "place", "who"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield (
            path.relative_to(PACKAGE).with_suffix("").parts,
            ast.parse(path.read_text()),
        )


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def test_imports_follow_the_arrows():
    seen = set()
    for parts, tree in modules():
        if parts == ("__init__",):
            continue
        seen.add(parts[0])
        for name in imports(tree):
            if name.startswith("lossweigh."):
                part = name.split(".")[1]
                allowed = ARROWS[parts[0]] | {parts[0]}
                assert part in allowed, f"{'/'.join(parts)} imports {name}"
    assert seen == set(ARROWS)


@pytest.mark.parametrize("folder", BASES)
def test_methods_do_not_import_each_other(folder):
    for parts, tree in modules():
        if parts[0] != folder or parts[1] == "__init__":
            continue
        for name in imports(tree):
            if name.startswith(f"lossweigh.{folder}."):
                assert name.split(".")[2] in BASES[folder], f"{'/'.join(parts)}: {name}"


# The one file that may import what needn't be installed.
IMPORTED_BY = {
    **{name: ("_backend", name) for name in BACKENDS},
    "matplotlib": ("plots", "style"),
    "tensorboard": ("plots", "sources"),
}


@pytest.mark.parametrize("name", IMPORTED_BY)
def test_what_need_not_be_installed_is_imported_by_one_file(name):
    importing = {
        parts
        for parts, tree in modules()
        if any(imported.split(".")[0] == name for imported in imports(tree))
    }
    assert importing == {IMPORTED_BY[name]}


@pytest.mark.parametrize("name", ["joblib", "scipy"])
def test_extras_of_the_comparison_are_imported_where_they_are_needed(name):
    for parts, tree in modules():
        importing = [each for each in imports(tree) if each.split(".")[0] == name]
        assert not importing, "/".join(parts)


def asks_for_the_backend(node):
    """A backend's name as a string, or `keras.backend.backend` and its like."""
    if isinstance(node, ast.Constant):
        return node.value in BACKENDS
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "backend"
        and (ast.unparse(node.value) in ("keras.backend", "keras.config", "backend"))
    )


@pytest.mark.parametrize(
    "code",
    [
        'keras.backend.backend() == "jax"',
        'name in ("tensorflow", "torch")',
        "keras.config.backend()",
        "from keras import backend; backend.backend()",
    ],
)
def test_a_question_for_the_backend_is_seen(code):
    assert any(asks_for_the_backend(node) for node in ast.walk(ast.parse(code)))


def test_only_one_folder_asks_for_the_backend():
    asking = {
        "/".join(parts) + ".py"
        for parts, tree in modules()
        if any(asks_for_the_backend(node) for node in ast.walk(tree))
        and parts[0] != "_backend"
    }
    assert not asking


def names_given(node):
    """The names that a node of the tree gives to something."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        if isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
    elif isinstance(node, (ast.arg, ast.alias)):
        yield node.arg if isinstance(node, ast.arg) else node.asname or node.name
    elif isinstance(
        node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler, ast.keyword)
    ):
        yield node.arg if isinstance(node, ast.keyword) else node.name


@pytest.mark.parametrize(
    "code",
    [
        "own = 1",
        "a, (own, b) = c",
        "self.own = 1",
        "own: int = 1",
        "[own for own in a]",
        "(own := 1)",
        "for own in a: pass",
        "with a as own: pass",
        "try: pass\nexcept E as own: pass",
        "def own(): pass",
        "def f(a, *, own=1): pass",
        "lambda own: 1",
        "class own: pass",
        "import a as own",
        "f(own=1)",
    ],
)
def test_an_empty_name_is_seen(code):
    names = [name for node in ast.walk(ast.parse(code)) for name in names_given(node)]
    assert "own" in names


def test_names_mean_something():
    for parts, tree in modules():
        names = {name for node in ast.walk(tree) for name in names_given(node)}
        assert not names & EMPTY_NAMES, "/".join(parts)


def test_private_keras_is_never_imported():
    for parts, tree in modules():
        for imported in imports(tree):
            assert not imported.startswith(("keras.src", "keras._")), "/".join(parts)


def test_files_are_short():
    """Past 250 lines a file is two things."""
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert not {name: n for name, n in lengths.items() if n > LONGEST}


def test_public_names_are_documented_and_registered():
    for name in lossweigh.__all__:
        thing = getattr(lossweigh, name)
        assert thing.__doc__, name
        if isinstance(thing, type) and issubclass(
            thing, (keras.layers.Layer, keras.constraints.Constraint)
        ):
            registered = keras.saving.get_registered_name(thing)
            abstract = ("Balancer", "Weighter")
            assert registered in (f"lossweigh>{name}", *abstract), name
    for name in lossweigh.layers.__all__:
        thing = getattr(lossweigh.layers, name)
        assert thing.__doc__, name
        if issubclass(thing, keras.layers.Layer):
            assert keras.saving.get_registered_name(thing) == f"lossweigh>{name}", name
    for name in lossweigh.losses.__all__:
        thing = getattr(lossweigh.losses, name)
        assert thing.__doc__, name
        if not inspect.isabstract(thing):
            assert keras.saving.get_registered_name(thing) == f"lossweigh>{name}", name
    assert lossweigh.ignore_loss is lossweigh.ignoreLoss
    assert keras.saving.get_registered_name(lossweigh.ignoreLoss) == (
        "lossweigh>ignoreLoss"
    )


def test_errors_are_of_two_kinds():
    """`ValueError` and `TypeError`, as Keras's; a property may lack an attribute."""
    for parts, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert):
                raise AssertionError(f"{'/'.join(parts)}: an `assert`")
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                kind = ast.unparse(node.exc.func)
                allowed = {"ValueError", "TypeError", "AttributeError"}
                # `raise unworded(error)` raises what Keras caught.
                assert kind in allowed or kind[0].islower() or "." in kind, parts
