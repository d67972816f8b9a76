"""The files that ran are found, and only changes of what they do count."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.taxonomy import void_value
from studies.benchmarks import measured_code
from studies.benchmarks.measured_code import changed, code_of, digest, watch_files


def test_watch_files__those_that_functions_ran_in() -> None:
    with watch_files() as files:
        void_value(27)
    assert "cups/taxonomy.py" in files and not any(name.startswith("cups/io") for name in files)
    assert all((measured_code.ROOT / name).is_file() for name in files)


def test_digest__comments_and_docstrings_do_not_count(tmp_path: Path) -> None:
    texts = {
        "one": 'def f(a):\n    """Say."""\n    return a + 1\n',
        "same": "# More.\ndef f(a):\n    return (a + 1)  # less\n",
        "other": "def f(a):\n    return a + 2\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    one, same, other = (digest(tmp_path / f"{name}.py") for name in texts)
    assert one == same != other and digest(tmp_path / "none.py") == ""


def test_changed__names_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_code, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "b.py").write_text("b = 1\n")
    code = code_of(["b.py", "a.py"])
    assert list(code) == ["a.py", "b.py"] and changed(code) == []
    (tmp_path / "a.py").write_text("a = 2\n")
    (tmp_path / "b.py").unlink()
    digest.cache_clear()
    assert changed(code) == ["a.py", "b.py"]
