"""Which of our source files a measurement ran, and whether they are as they were."""

from __future__ import annotations

import ast
import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 16


@contextmanager
def watch_files() -> Iterator[set[str]]:
    """Collect the files of this repository that functions are called from, relative to its root.

    Functions that are called slow down; watch a rehearsal, not what is timed.
    """
    seen: set[str] = set()

    def note(frame: FrameType, _event: str, _argument: Any) -> None:
        seen.add(frame.f_code.co_filename)

    found: set[str] = set()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        found.update(inside for name in seen if (inside := _inside(name)))


def _inside(name: str) -> str | None:
    path = Path(name)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) and path.is_file() else None


def code_of(files: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file's code, as `digest`; a file that is gone has an empty one."""
    return {name: digest(ROOT / name) for name in sorted(files)}


def changed(code: Mapping[str, str]) -> list[str]:
    """Return the files whose code is no longer what `code_of` returned."""
    return [name for name, known in code.items() if digest(ROOT / name) != known]


@cache
def digest(path: Path) -> str:
    """Return a digest of what a Python file does: comments, docstrings and layout do not count."""
    if not path.is_file():
        return ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:DIGITS]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
