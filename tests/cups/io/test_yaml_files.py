"""The one reader of YAML; what it refuses is in `tests/hostile/test_code_execution.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.yaml_files import load_yaml, read_layers, yaml_text


def test_load_yaml__plain_values_aliases_and_merges(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: [1.5, yes, null]}\nb: {<<: *a, x: 'ö'}\nc: [*a, *a]\n", encoding="utf-8")
    a = {"x": 1, "y": [1.5, True, None]}
    assert load_yaml(path, "fix") == {"a": a, "b": {**a, "x": "ö"}, "c": [a, a]}
    path.write_text("")
    assert load_yaml(path, "fix") is None
    with pytest.raises(UserError, match=r"none\.yaml: no such file; check it"):
        load_yaml(tmp_path / "none.yaml", "check it")


def test_yaml_text__comes_back(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None, "text: with colon"], "a": {"x": True}}
    (tmp_path / "a.yaml").write_text(yaml_text(content))
    assert load_yaml(tmp_path / "a.yaml", "fix") == content


def test_read_layers__lowest_first_relative_to_each_file(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "low.yaml").write_text("a: 1\n")
    (tmp_path / "bases" / "mid.yaml").write_text("_BASE_: low.yaml\nb: 2\n")
    (tmp_path / "top.yaml").write_text("_BASE_: [bases/low.yaml, bases/mid.yaml]\nc: 3\n")
    layers = read_layers(tmp_path / "top.yaml", "fix")
    assert [(layer.path.stem, layer.content, layer.above) for layer in layers] == [
        ("low", {"a": 1}, 1),
        ("low", {"a": 1}, 2),
        ("mid", {"b": 2}, 1),
        ("top", {"c": 3}, 0),
    ]
    (tmp_path / "top.yaml").write_text("_BASE_: {a: 1}\n")
    with pytest.raises(UserError, match=r"top\.yaml: _BASE_ must be a path"):
        read_layers(tmp_path / "top.yaml", "fix")
