"""Files are read by `cups/io` alone: what reads them elsewhere knows neither limits nor digests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READING = {
    *("Image.open", "cv2.imread", "np.load", "np.fromfile", "torch.load", "json.load", "json.loads", "open"),
    *("read_text", "read_bytes", "csv.reader", "csv.DictReader", "load_file", "pickle.load", "pickle.loads"),
}
"""Calls that read a file, or parse one, by the end of their names."""
ROOMS_OF_READERS = ("cups/io/",)
ELSEWHERE = {
    ("cups/training/processes.py", "read_text"),  # /proc/cpuinfo
    ("cups/training/loggers.py", "read_text"),  # what a run wrote itself; anything but an id is made anew
    ("pseudo_labels/steps/slurm_jobs.py", "read_text"),  # the last line of a log, whatever bytes it holds
}


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield from {name, name.rpartition(".")[2] if "." in name else name} & READING


def test_files__are_read_by_the_readers_alone() -> None:
    found = set()
    for room in ("cups", "pseudo_labels"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            code = path.read_text(encoding="utf-8")
            if not name.startswith(ROOMS_OF_READERS) and any(f"{call}(" in code for call in READING):
                found |= {(name, call) for call in _calls(ast.parse(code))}
    assert found - ELSEWHERE == set()


def test_calls__finds_what_it_looks_for() -> None:
    code = "np.load(x); Image.open(y); z.read_text(); open(w); webbrowser.open(1); stored.load(x)"
    assert set(_calls(ast.parse(code))) >= {"np.load", "Image.open", "read_text", "open"}
