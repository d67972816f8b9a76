"""Flickering labels of a clip become steady; what is no clip is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels.generate_voted_semantics import main
from pseudo_labels.steps.label_kind import LabelKind

FRAMES = 5


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A panning camera over two labels, and a block of wrong labels in one frame each."""
    noise = np.random.default_rng(0).normal(128, 60, (64, 160, 1)).astype(np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    for time in range(FRAMES):
        image = np.repeat(wide[:, 3 * time : 3 * time + 96, None], 3, axis=2)
        write_png(tmp_path / "photos" / f"f{time}.png", image)
        labels = truth(time)
        labels[20:36, 8 + 16 * time : 24 + 16 * time] = 2
        write_png(tmp_path / "out" / "pseudo_semantic_raw_k3" / f"f{time}.png", labels)
    kind = LabelKind("clusters", 3).content()
    folder = tmp_path / "out" / "pseudo_semantic_raw_k3"
    write_provenance(folder, script="test", arguments={}, labels=kind)
    return tmp_path


def truth(time: int) -> np.ndarray:
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 60 - 3 * time :] = 1
    return labels


def run(root: Path, *more: str) -> int:
    places = ["--image_dir", str(root / "photos"), "--output_root", str(root / "out")]
    return main([*places, "--semantic_subdir", "pseudo_semantic_raw_k3", "--num_workers", "0", *more])


def test_main__flicker_is_outvoted(clip: Path) -> None:
    split = {"things": [2], "stuffs": [0, 1]}
    (clip / "out" / "pseudo_semantic_raw_k3" / SPLIT_FILE).write_text(json.dumps(split))
    assert run(clip, "--show", "2") == 0
    folder = clip / "out" / "pseudo_semantic_voted_raw_k3"
    for time in range(1, FRAMES - 1):
        before = read_ids(clip / "out" / "pseudo_semantic_raw_k3" / f"f{time}.png")
        after = read_ids(folder / f"f{time}.png")
        wrong = [(labels != truth(time)).mean() for labels in (before, after)]
        assert wrong[0] > 0.03 and wrong[1] < wrong[0] / 4, (time, wrong)
    assert json.loads((folder / SPLIT_FILE).read_text())["things"] == [2]
    told = read_provenance(folder)
    assert told is not None and told["labels"]["num_classes"] == 3 and told["uses_ground_truth"] is False
    assert (folder / "contact_sheet.png").is_file()
    made = (folder / "f1.png").stat().st_mtime_ns
    assert run(clip) == 0 and (folder / "f1.png").stat().st_mtime_ns == made


def test_main__single_photos_have_no_neighbours(clip: Path) -> None:
    for folder in (clip / "photos", clip / "out" / "pseudo_semantic_raw_k3"):
        for path in folder.glob("f[1-4].png"):
            path.unlink()
    with pytest.raises(UserError, match="no frame has a neighbour in time"):
        run(clip)
