"""The test tree mirrors the source tree, so that a module's tests are found without a search."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
ROOMS = ("cups", "pseudo_labels", "refs", "studies", "scripts", "benchmarks")
WHOLE_RUNS = frozenset(
    {
        "pseudo_labels/test_on_toy_streets.py",
        "refs/cause/test_parity.py",
        "refs/spidepth/test_parity.py",
    }
)
"""Tests of several modules together: Stage 1 on rendered streets, networks beside the originals' outputs."""


def _test_modules() -> list[str]:
    files = sorted(file for room in ROOMS for file in (TESTS / room).rglob("test_*.py"))
    return [file.relative_to(TESTS).as_posix() for file in files]


def _sources(test: str) -> list[Path]:
    """Return what a test module may stand for: a module, a shell script, or a room."""
    path = ROOT / Path(test).parent / Path(test).stem.removeprefix("test_")
    return [path.with_suffix(".py"), path.with_suffix(".sh"), path / "__init__.py"]


@pytest.mark.parametrize("test", [test for test in _test_modules() if test not in WHOLE_RUNS])
def test_tests__stand_where_their_source_stands(test: str) -> None:
    """tests/a/b/test_c.py tests a/b/c.py, or the room a/b/c/."""
    sources = _sources(test)
    assert any(file.is_file() for file in sources), f"tests/{test}: no {sources[0].relative_to(ROOT)}"


def test_whole_runs__are_there_and_mirror_nothing() -> None:
    assert set(_test_modules()) >= WHOLE_RUNS
    assert not [test for test in WHOLE_RUNS if any(file.is_file() for file in _sources(test))]


def test_sources__of_a_moved_module_are_not_found() -> None:
    """The comparison can fail: `cups/trainer.py` moved into a room, and so did its tests."""
    assert not any(file.is_file() for file in _sources("cups/test_trainer.py"))
    assert any(file.is_file() for file in _sources("cups/builders/test_trainer.py"))
    assert any(file.is_file() for file in _sources("scripts/test_launch.py"))
