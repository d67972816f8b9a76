"""Which module may import which: the arrows of the design, and "no labels used" as a property of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cups", "pseudo_labels", "refs", "studies")
GROUND_TRUTH_READER = "cups.data.cityscapes"
ORACLE = "pseudo_labels.scoring.oracle_mapping"
"""The one module behind `--mapping oracle`."""


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _nodes(module: str) -> Iterator[ast.AST]:
    """Yield the syntax of a module, and of the stub beside it: a lazy package imports what its stub names."""
    file = _file(module)
    assert file is not None
    for source in (file, file.with_suffix(".pyi")):
        if source.is_file():
            yield from ast.walk(ast.parse(source.read_text()))


def _source_of(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of what an import statement takes names from."""
    if node.level == 0:
        return node.module or ""
    file = _file(module)
    assert file is not None
    above = node.level - (file.name == "__init__.py")
    package = module.split(".")[: -above or None]
    return ".".join((*package, *([node.module] if node.module else [])))


@cache
def imports(module: str) -> frozenset[str]:
    """Return the project modules that a module imports anywhere in its code, parent packages included."""
    found: set[str] = set()
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _source_of(node, module)
            found.add(source)
            # `from package import module` names a module, not an attribute, where such a file exists.
            found.update(f"{source}.{alias.name}" for alias in node.names)
    inside = {name for name in found if name.split(".")[0] in PACKAGES and _file(name)}
    parents = {name.rsplit(".", depth)[0] for name in inside for depth in range(1, name.count(".") + 1)}
    return frozenset((inside | {parent for parent in parents if _file(parent)}) - {module})


def reachable(module: str, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return {module reached: module that imports it}, walking the import graph from `module`."""
    reached: dict[str, str] = {}
    todo = [module]
    while todo:
        current = todo.pop()
        for name in imports(current) - without:
            if name not in reached:
                reached[name] = current
                todo.append(name)
    return reached


def _modules(*patterns: str) -> list[str]:
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    return [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts]


LABEL_MAKERS = _modules(
    "pseudo_labels/generate_*.py",
    "pseudo_labels/train_*.py",
    "pseudo_labels/convert_*.py",
    "pseudo_labels/classify_*.py",
    "pseudo_labels/generators/*.py",
)

PACKAGE_FILES = frozenset(_modules(*(f"{package}/**/__init__.py" for package in PACKAGES)))


def test_label_makers__are_found() -> None:
    assert "pseudo_labels.generate_depth_guided_instances" in LABEL_MAKERS
    assert "pseudo_labels.train_cause" in LABEL_MAKERS


@pytest.mark.parametrize("module", LABEL_MAKERS)
def test_label_makers__cannot_reach_the_ground_truth_reader(module: str) -> None:
    reached = reachable(module, without=frozenset({ORACLE}))
    assert GROUND_TRUTH_READER not in reached, f"imported by {reached[GROUND_TRUTH_READER]}"


def test_oracle__is_the_one_exception() -> None:
    """The walk does see the reader: through the oracle, the very script above reaches it."""
    script = "pseudo_labels.generate_overclustered_semantics"
    assert GROUND_TRUTH_READER in reachable(script)
    importers = {module for module in _modules("pseudo_labels/**/*.py") if ORACLE in imports(module)}
    assert importers == {"pseudo_labels.generators.overclusters"}


def test_imports__of_a_lazy_package_are_those_of_its_face() -> None:
    """Its code imports nothing: a walk over the code alone would lose the reader behind `cups.data`."""
    file = _file("cups.data")
    assert file is not None and "cityscapes" not in file.read_text().split('"""')[2]
    assert GROUND_TRUTH_READER in imports("cups.data")
    assert GROUND_TRUTH_READER in reachable("cups.builders.evaluation")
    lazy = [module for module in PACKAGE_FILES if "attach_stub" in _file(module).read_text()]  # type: ignore[union-attr]
    assert {"cups", "cups.backbones", "cups.data", "cups.metrics", "cups.model"} == set(lazy)
    assert all(imports(module) for module in lazy)


def test_label_makers__name_no_ground_truth_folder() -> None:
    for module in LABEL_MAKERS:
        file = _file(module)
        assert file is not None
        strings = [n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)]
        paths = [
            text
            for text in strings
            if isinstance(text, str) and "/gtFine" in text.replace("gtFine/", "/gtFine")
        ]
        assert not paths, f"{module}: {paths}"


@pytest.mark.parametrize("module", _modules("cups/**/*.py"))
def test_cups__never_imports_scripts_or_stage_one(module: str) -> None:
    assert {name.split(".")[0] for name in imports(module)} <= {"cups", "refs"}


@pytest.mark.parametrize("module", _modules("refs/**/*.py"))
def test_refs__import_neither_cups_nor_stage_one(module: str) -> None:
    assert all(name.split(".")[0] == "refs" for name in imports(module))


@pytest.mark.parametrize("module", _modules("cups/**/*.py", "pseudo_labels/**/*.py", "refs/**/*.py"))
def test_library__never_imports_studies(module: str) -> None:
    assert not [name for name in imports(module) if name.split(".")[0] == "studies"]


def _is_script(module: str) -> bool:
    file = _file(module)
    assert file is not None
    return '\nif __name__ == "__main__":' in file.read_text()


@pytest.mark.parametrize("module", _modules("studies/**/*.py"))
def test_studies__import_no_script(module: str) -> None:
    assert not [name for name in imports(module) if _is_script(name)]


def test_imports__have_no_circles() -> None:
    for module in _modules(*(f"{package}/**/*.py" for package in PACKAGES)):
        if module in PACKAGE_FILES:  # it collects its members; that is no circle of modules
            continue
        reached = reachable(module, without=PACKAGE_FILES)
        assert module not in reached, f"{module} is imported again by {reached.get(module)}"


def is_script(module: str) -> bool:
    """Whether people start the module by its path, and nothing else should need it.

    These are the files at the root, in scripts/, benchmarks/ and pseudo_labels/evaluation/, and what has a
    `main` at the top of pseudo_labels/. Modules that start with `python -m` are libraries too.
    """
    file = _file(module)
    if file is None or file.name == "__init__.py":
        return False
    room = module.rpartition(".")[0]
    if room != "pseudo_labels":
        return room in ("", "scripts", "benchmarks", "pseudo_labels.evaluation")
    return any(getattr(node, "name", None) == "main" for node in ast.parse(file.read_text()).body)


ENTRIES = frozenset(_modules("*.py", "scripts/*.py", "benchmarks/*.py"))
"""Modules that are imported by their mere names when Python runs one of them."""


def _scripts_imported(source: str, inside: frozenset[str]) -> set[str]:
    """Return the scripts among a module's imports, those imported by their mere names included."""
    found = {name for name in inside if is_script(name)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found.update(name for name in names if name in {entry.rpartition(".")[2] for entry in ENTRIES})
    return found


@pytest.mark.parametrize("module", _modules(*(f"{package}/**/*.py" for package in PACKAGES)))
def test_scripts__are_imported_by_no_module(module: str) -> None:
    """What two scripts share stands in a library; a script is a parser, settings and one call."""
    file = _file(module)
    assert file is not None
    assert not _scripts_imported(file.read_text(), imports(module))


def test_scripts__are_recognised() -> None:
    for name in (
        "train",
        "pseudo_labels.convert_to_cups_format",
        "pseudo_labels.evaluation.evaluate_pseudolabels",
    ):
        assert is_script(name)
    assert not is_script("pseudo_labels.steps.executor") and not is_script("pseudo_labels.refine_net")
    assert _scripts_imported("from train import main\nimport val", frozenset()) == {"train", "val"}
    assert _scripts_imported("", frozenset({"pseudo_labels.train_cause", "cups.errors"})) == {
        "pseudo_labels.train_cause"
    }


def _room(module: str) -> str:
    """Return package and room: `cups.io.png` -> `cups.io`; a module beside the rooms is its own."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms__arrows_between_two_run_one_way(package: str) -> None:
    """Of two rooms one serves the other; both ways, neither could be read or changed alone."""
    arrows: dict[tuple[str, str], str] = {}
    for module in _modules(f"{package}/**/*.py"):
        if module in PACKAGE_FILES:
            continue
        for name in imports(module) - PACKAGE_FILES:
            arrows.setdefault((_room(module), _room(name)), f"{module} -> {name}")
    back = [
        f"{arrow}, but {arrows[to, room]}"
        for (room, to), arrow in arrows.items()
        if room < to and (to, room) in arrows
    ]
    assert not back
