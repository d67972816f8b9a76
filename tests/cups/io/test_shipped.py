"""Configs by their names, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.config import build_config
from cups.errors import UserError
from cups.io import shipped
from cups.io.shipped import find_config

ROOT = Path(__file__).resolve().parents[3]


def test_find_config__a_bare_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("val_kitti.yaml")) == ROOT / "configs" / "val_kitti.yaml"
    assert build_config("val_kitti.yaml") == build_config(ROOT / "configs" / "val_kitti.yaml")


def test_find_config__a_file_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("val_kitti.yaml").write_text("TRAINING: {STEPS: 7}")
    assert build_config("val_kitti.yaml").TRAINING.STEPS == 7


def test_find_config__inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "mine.yaml").touch()
    monkeypatch.setattr(shipped, "FOLDERS", (tmp_path / "inside", tmp_path))
    assert find_config(Path("mine.yaml")) == tmp_path / "inside" / "mine.yaml"


@pytest.mark.parametrize("name", ["nix.yaml", "configs/nix.yaml"])
def test_find_config__what_is_not_found_is_named_as_given(name: str) -> None:
    assert find_config(Path(name)) == Path(name)
    with pytest.raises(UserError, match=f"^{name}: no such file"):
        build_config(name)
