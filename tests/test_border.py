"""Command lines end at the border: below a script there are settings, and no flag is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("cups", "pseudo_labels", "refs", "studies")
BORDER = frozenset({"cups/config.py", "pseudo_labels/steps/flags.py"})
"""Where a command line becomes a configuration, or settings."""
LONGEST_SCRIPT = 120
FLAG = re.compile(r"(?:^|[\s(])--\w")
SHELL = "run `bash scripts/"
"""Before a command in full, whose flags belong to it."""


def _files(*rooms: str) -> list[Path]:
    return sorted(file for room in rooms for file in (ROOT / room).rglob("*.py"))


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _is_script(file: Path) -> bool:
    return '\nif __name__ == "__main__":' in file.read_text()


SCRIPTS = [
    file for file in (*ROOT.glob("*.py"), *_files(*LIBRARIES, "scripts", "benchmarks")) if _is_script(file)
]


def takes_namespace(source: str) -> list[str]:
    """Return the functions with a parameter of the type that argparse gives."""
    functions = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        function.name
        for function in functions
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if argument.annotation is not None and "Namespace" in ast.unparse(argument.annotation)
    ]


def flags_in_errors(source: str) -> Iterator[str]:
    """Yield the texts of `raise` statements that name a flag of some command line."""
    raised = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    for node in (part for statement in raised for part in ast.walk(statement)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and FLAG.search(text) and SHELL not in text:
            yield text


@pytest.mark.parametrize("file", [f for f in _files(*LIBRARIES) if _name(f) not in BORDER], ids=_name)
def test_library__below_the_border(file: Path) -> None:
    """Settings are named in backquotes, which `cups.errors.run_main` prints as flags."""
    source = file.read_text()
    assert not takes_namespace(source)
    assert not list(flags_in_errors(source))


@pytest.mark.parametrize("file", SCRIPTS, ids=_name)
def test_scripts__are_short(file: Path) -> None:
    """A script is a parser, a settings object and one call."""
    exempt = {"cups/data/toy_streets.py"}  # a library that can be started
    assert _name(file) in exempt or len(file.read_text().splitlines()) <= LONGEST_SCRIPT


def test_border__the_search_finds_what_it_looks_for() -> None:
    assert takes_namespace("def f(args: argparse.Namespace, *, b: int) -> None: ...") == ["f"]
    assert list(flags_in_errors("raise UserError(f'{a}: broken; add --overwrite')")) == [
        ": broken; add --overwrite"
    ]
    assert not list(flags_in_errors("raise UserError('run `bash scripts/setup.sh --official-detectron2`')"))
    assert len(SCRIPTS) > 30
