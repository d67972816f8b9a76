"""`config.json` of a published network: values of the right kinds, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.io.model_folder import MODEL_TYPE, config_beside, read_config, weights_file

HEAD = {"model_type": MODEL_TYPE, "version": 1}


def _write(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_read_config__what_a_checkpoint_tells(tmp_path: Path) -> None:
    told = {"model": {"architecture": {}}, "working_size": [4, 5], "provenance": {"uses_ground_truth": None}}
    assert read_config(_write(tmp_path, HEAD | told)) == told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model_type": "bert"}, "model_type is not cups-panoptic"),
        ({"version": 2}, "version is not 1"),
        ({"version": True}, "version is not 1"),
        ({"auto_map": {"AutoModel": "code.py"}}, "the key 'auto_map', which is unknown"),
        ({"model": []}, "model holds a value of another kind"),
        ({"working_size": "4x5"}, "working_size holds a value of another kind"),
        ({"classes": ["x" * 2000]}, "classes holds a value of another kind, too long"),
        ({"provenance": {"steps": [[[[[[[[[[1]]]]]]]]]]}}, "provenance holds .* too deep"),
        ({"stuff_pseudo_classes": [0] * 100_001}, "stuff_pseudo_classes holds"),
    ],
)
def test_read_config__refuses_all_else(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_config(_write(tmp_path, HEAD | more))


def test_config_beside__ours_alone(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    assert config_beside(weights) is None
    _write(tmp_path, {"model_type": "dinov2"})
    assert config_beside(weights) is None
    path = _write(tmp_path, HEAD)
    assert config_beside(weights) == path and config_beside(tmp_path / "other.safetensors") is None
    _write(tmp_path, "{")
    with pytest.raises(UserError, match="not valid JSON"):
        config_beside(weights)


def test_weights_file__of_folders_alone(tmp_path: Path) -> None:
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"
    for other in (tmp_path / "last.ckpt", Path("x" * 300), Path("a\0b")):
        assert weights_file(other) == other
