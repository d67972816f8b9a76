"""Weights are found under our names and their publishers', as torch files and as safetensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cups.errors import UserError
from cups.io import weights
from cups.io.checkpoint import load_checkpoint, load_tensors, read_file
from cups.io.weights import WeightFile, stored_at, weight_files, weight_table

META = {
    "dinov2_vitb14": "dinov2_vitb14_pretrain.pth",
    "dinov2_vitl14": "dinov2_vitl14_pretrain.pth",
    "dinov2_vitb14_reg": "dinov2_vitb14_reg4_pretrain.pth",
    "dinov3_vitb16": "dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth",
    "dinov3_vitl16": "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("name", META)
@pytest.mark.parametrize("folder", weights.USUAL_FOLDERS)
def test_find__names_of_the_publisher(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    (file,) = weight_files(name, tmp_path)
    assert file.find() is None
    there = put(tmp_path / folder / META[name])
    assert file.find() == there
    assert file.find(tmp_path / folder) == there and file.find(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    "name", [name for name, entry in weight_table().items() if "names" in entry["files"][0]]
)
def test_find__our_name_comes_first_and_safetensors_count(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    (file,) = weight_files(name, tmp_path)
    other = put(tmp_path / "checkpoints" / file.names[0].replace("*", "0").replace(".pth", ".safetensors"))
    assert file.find() == other
    safe = put(file.path.with_suffix(".safetensors"))
    assert file.find() == safe
    own = put(file.path)
    assert file.find() == own


def test_looked_for__names_and_folders(tmp_path: Path) -> None:
    text = weight_files("dinov3_vitb16")[0].looked_for()
    assert "dinov3_vitb16_pretrain_lvd1689m-*.pth" in text and "refs/cause/CAUSE" in text
    assert "cups/model/backbone_checkpoints" in text and ".safetensors" in text and "\n" not in text
    assert WeightFile(tmp_path / "own.pth").looked_for().startswith("looked for own.pth (or .safetensors) in")


def test_read_file__safetensors_beside_the_name(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "half": torch.ones(2, dtype=torch.float16)}
    save_file(tensors, tmp_path / "segment_tr.safetensors")
    path = tmp_path / "segment_tr.pth"
    assert stored_at(path) == tmp_path / "segment_tr.safetensors"
    for content in (load_tensors(path), read_file(path), load_checkpoint(stored_at(path)).state):
        assert content.keys() == tensors.keys()
        assert all(torch.equal(content[name], tensor) for name, tensor in tensors.items())
    torch.save({"own": torch.zeros(1)}, path)
    assert list(load_tensors(path)) == ["own"]


@pytest.mark.parametrize("content", [b"", b"no safetensors", pickle.dumps({"a": 1})])
def test_read_file__damaged_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable safetensors file"):
        load_tensors(path)
