"""A network as a folder: written, opened again, its history without paths."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cups
from cups.builders.deployment import export
from cups.categories import names_file, save_names
from cups.deployment.model_folder import history_of
from cups.errors import UserError
from cups.export_settings import ExportSettings
from cups.io.checkpoint import load_checkpoint
from cups.model.network_config import architecture_of, load_config
from cups.taxonomy import class_set
from tests.cups.conftest import TINY, make_tiny

PSEUDO = {"thing_pseudo_classes": [6, 0, 2], "stuff_pseudo_classes": [1, 3, 4, 5]}
STEP = {
    "script": "convert_to_cups_format",
    "uses_ground_truth": False,
    "arguments": {"cityscapes_root": "/secret/place/city"},
    "inputs": [
        {"path": "/secret/place", "provenance": {"script": "train_cause", "uses_ground_truth": False}}
    ],
    "weights": [{"name": "dinov2_vitb14", "uses_ground_truth": False}],
}
STAGE2 = {
    "code_version": "1.0 abc",
    "uses_ground_truth": False,
    "pseudo_labels": STEP,
    "weights": [{"name": "/secret/dino.pkl", "uses_ground_truth": None}],
}
STAGE3 = {"code_version": "1.1", "uses_ground_truth": False, "checkpoint": "/secret/t.ckpt", "stage2": STAGE2}


@pytest.fixture(scope="module")
def original(make_folder: Callable[[str], Path]) -> Path:
    """A checkpoint of self-training; its teacher differs from the student."""
    config = load_config("Panoptic-Cascade-Mask-R-CNN-Small.yaml", TINY)
    stored: dict[str, Any] = {
        "model": {"architecture": architecture_of(config), "class_weights": [1.0] * 5},
        "provenance": STAGE3,
        "working_size": [48, 64],
        **PSEUDO,
    }
    student = {f"model.{name}": value for name, value in make_tiny().state_dict().items()}
    teacher = {f"teacher_model.{name}": value.clone() for name, value in student.items()}
    teacher["teacher_model.model.sem_seg_head.predictor.bias"] += 1
    path = make_folder("network") / "best.ckpt"
    torch.save({"state_dict": student | teacher, "hyper_parameters": stored}, path)
    return path


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "best.ckpt"))


@pytest.fixture(scope="module")
def published(original: Path, make_folder: Callable[[str], Path]) -> Path:
    return _export(original, make_folder("out"))


@pytest.fixture
def mine(published: Path, tmp_path: Path) -> Path:
    """A published folder of one's own, to change."""
    return Path(shutil.copytree(published, tmp_path / "model"))


def _export(checkpoint: Path, output: Path, **more: Any) -> Path:
    export(ExportSettings(checkpoint, output, ("folder",), **more))
    return output / "model"


def test_folder__opens_as_its_checkpoint(original: Path, published: Path) -> None:
    folder, saved = published, original
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    one, other = (cups.load(path, confidence_threshold=0.05) for path in (saved, folder))
    assert (one.split, one.working_size) == (other.split, other.working_size) and one.working_size == (48, 64)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    first, second = (network.predict(pixels) for network in (one, other))
    assert (first.ids == second.ids).all() and first.segments == second.segments and first.segments
    weights = load_checkpoint(folder / "model.safetensors")
    assert weights.section("model")["class_weights"] == [1.0] * 5
    assert weights.provenance["uses_ground_truth"] is False


def test_folder__the_teacher(original: Path, published: Path, tmp_path: Path) -> None:
    name = "sem_seg_head.predictor.bias"
    folders = (published, _export(original, tmp_path, use_teacher=True))
    states = [load_checkpoint(folder).state[name] for folder in folders]
    assert torch.equal(states[0] + 1, states[1])


def test_folder__tells_no_path_of_the_machine(original: Path, published: Path, tmp_path: Path) -> None:
    folder = published
    config, card = (folder / "config.json").read_text(), (folder / "README.md").read_text()
    assert "secret" not in config and "secret" not in card and str(original.parent) not in config + card
    history = json.loads(config)["provenance"]
    assert [step["step"] for step in history["steps"]] == [
        "train_cause",
        "convert_to_cups_format",
        "Stage 2: training on pseudo-labels",
        "Stage 3: self-training",
    ]
    assert history["steps"][1]["data"] == "city"
    known, unknown = history["weights"]
    assert known["licence"] == "Apache-2.0" and unknown == {"name": "dino.pkl", "uses_ground_truth": None}
    assert "**Ground truth used to train it: no.**" in card and "| city |" in card.replace("  ", "")
    # Published again, it tells the same.
    again = _export(folder, tmp_path / "again")
    assert json.loads((again / "config.json").read_text()) == json.loads(config)


def test_history_of__training_on_ground_truth_and_what_came_before() -> None:
    labelled = {"data": "city", "split": "train", "frames": 3, "of": 300, "seed": 0}
    told = {"uses_ground_truth": True, "ground_truth": labelled, "weights": [], "start": STAGE3}
    history = history_of(told)
    assert history["uses_ground_truth"] is True
    assert history["steps"][-1] == {"step": "training on ground truth", **labelled, "uses_ground_truth": True}
    assert [s["uses_ground_truth"] for s in history["steps"]] == [False] * 4 + [True]
    assert history_of({}) == {
        "uses_ground_truth": None,
        "code_version": "unknown",
        "steps": [],
        "weights": [],
    }


def test_folder__carries_the_names_of_the_classes(saved: Path, tmp_path: Path) -> None:
    save_names(saved, class_set(19), [0, 1, 2, 8, 11, 13, 255], {"uses_ground_truth": True})
    folder = _export(saved, tmp_path / "out")
    assert names_file(folder / "model.safetensors").is_file()
    network = cups.load(folder)
    assert network.categories.names[13] == "car" and network.categories.provenance["uses_ground_truth"]
    assert "matched on ground truth; they change no prediction" in (folder / "README.md").read_text()
    # Names of what the checkpoint was before are left behind.
    torch.save({**torch.load(saved, weights_only=True), "more": 1}, saved)
    assert cups.load(_export(saved, tmp_path / "out")).categories.names[0] == "stuff 0"
    assert not names_file(folder / "model.safetensors").exists()


def test_folder__one_of_something_else_is_left_alone(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="of something else; choose another `output`"):
        _export(saved, tmp_path / "out")
    assert (folder / "config.json").read_text() == '{"model_type": "bert"}'
    for wrong in (folder, tmp_path / "out"):
        with pytest.raises(UserError, match="no published network of ours"):
            cups.load(wrong)


def test_folder__of_a_network_that_learnt_ground_truth(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    names = ("sky", "road", "car", "wall", "tree", "hill", "bus")
    rows = [{"name": n, "isthing": i in (0, 2, 6), "color": [i, 0, 0]} for i, n in enumerate(names)]
    content["hyper_parameters"] |= {"classes": rows, "provenance": {"uses_ground_truth": True}}
    torch.save(content, saved)
    folder = _export(saved, tmp_path / "out")
    network = cups.load(folder)
    assert network.categories.names == names and network.categories.table.tolist() == [1, 3, 4, 5, 6, 0, 2]
    card = (folder / "README.md").read_text()
    assert "**Ground truth used to train it: YES.**" in card and "- unsupervised" not in card


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model",
            {"architecture": {"MODEL.FPN.OUT_CHANNELS": 10**9}},
            r"MODEL\.FPN\.OUT_CHANNELS is 1000000000",
        ),
        (
            "model",
            {"architecture": {"MODEL.WEIGHTS": "http://x"}},
            r"the key 'MODEL\.WEIGHTS', which is unknown",
        ),
        ("model", {"model_config": "/etc/passwd"}, "no file that a checkpoint names is opened"),
        ("working_size", [10**6, 10**6], "more pixels than can be"),
        ("thing_pseudo_classes", [0, 0, 1], "no list of numbers"),
        ("classes", [{"name": "car", "isthing": True, "color": [1, 2, 3]}], "no names of its 7 outputs"),
        ("classes", [{"name": "a\nb", "isthing": True, "color": [1, 2, 3]}] * 7, "no names of its 7 outputs"),
        (
            "classes",
            [{"name": "car", "isthing": True, "color": [1, 2, 3]}] * 7,
            "things where its outputs are stuff",
        ),
    ],
)
def test_folder__values_of_config_json_are_checked(key: str, value: Any, message: str, mine: Path) -> None:
    path = mine / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=message):
        cups.load(mine)


def test_folder__weights_that_are_none(mine: Path) -> None:
    """A pickle under the name of a safetensors file is not unpickled."""
    folder = mine
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable safetensors file"):
        cups.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        cups.load(folder)


@pytest.mark.parametrize(("told", "tagged"), [(False, True), (None, False)])
def test_card__only_what_is_known_to_be_unsupervised_is_called_so(
    saved: Path, tmp_path: Path, told: bool | None, tagged: bool
) -> None:
    content = torch.load(saved, weights_only=True)
    content["hyper_parameters"]["provenance"] = {"uses_ground_truth": told}
    torch.save(content, saved)
    card = (_export(saved, tmp_path / "out") / "README.md").read_text()
    assert ("- unsupervised" in card) is tagged
