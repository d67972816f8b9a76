"""`docs/configuration.md` says what the rows say."""

from __future__ import annotations

from pathlib import Path

from cups.config_keys import KEYS
from cups.config_page import SCRIPTS, document

ROOT = Path(__file__).resolve().parents[2]


def test_document__the_file_is_fresh() -> None:
    file = ROOT / "docs" / "configuration.md"
    assert file.read_text() == document(), "python -m cups.config_page > docs/configuration.md"


def test_document__holds_every_key_once() -> None:
    section, found = "", []
    for line in document().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `") and section != "Flags":
            found.append(f"{section}.{line.split('`')[1]}")
    assert found == list(KEYS)


def test_document__scripts_exist() -> None:
    assert all((ROOT / name).is_file() for name in SCRIPTS)
