"""Flickering labels of a clip become steady; what is no clip is refused."""

from __future__ import annotations

import json
import os
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


def write_split(root: Path, things: list[int]) -> None:
    split = {"things": things, "stuffs": sorted({0, 1, 2} - set(things))}
    (root / "out" / "pseudo_semantic_raw_k3" / SPLIT_FILE).write_text(json.dumps(split))


def truth(time: int) -> np.ndarray:
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 60 - 3 * time :] = 1
    return labels


def run(root: Path, *more: str) -> int:
    places = ["--image_dir", str(root / "photos"), "--output_root", str(root / "out")]
    return main([*places, "--semantic_subdir", "pseudo_semantic_raw_k3", "--num_workers", "0", *more])


def test_main__flicker_is_outvoted(clip: Path) -> None:
    write_split(clip, [2])
    assert run(clip, "--show", "2", "--vote_on", "all", "--reach", "1") == 0
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
    assert run(clip, "--vote_on", "all", "--reach", "1") == 0
    assert (folder / "f1.png").stat().st_mtime_ns == made


def test_main__a_neighbour_whose_labels_changed_votes_again(clip: Path) -> None:
    """A frame was kept while only its neighbour's labels were made anew."""
    write_split(clip, [2])
    choices = ("--vote_on", "all", "--reach", "1")
    assert run(clip, *choices) == 0
    voted = clip / "out" / "pseudo_semantic_voted_raw_k3"
    made = {time: (voted / f"f{time}.png").stat().st_mtime_ns for time in range(FRAMES)}
    semantics = clip / "out" / "pseudo_semantic_raw_k3" / "f1.png"
    later = max(made.values()) + 10**9
    os.utime(semantics, ns=(later, later))
    assert run(clip, *choices) == 0
    again = [time for time in made if (voted / f"f{time}.png").stat().st_mtime_ns != made[time]]
    assert again == [0, 1, 2]


@pytest.mark.parametrize("things", [[2], [1]])
def test_main__stuff_alone_votes_unless_told_otherwise(clip: Path, things: list[int]) -> None:
    """The flickering block is a thing, or stuff like the ground that it covers."""
    write_split(clip, things)
    assert run(clip) == 0
    before, after = (
        read_ids(clip / "out" / f"pseudo_semantic_{kind}raw_k3" / "f2.png") for kind in ("", "voted_")
    )
    is_thing = np.isin(before, things)
    assert (after[is_thing] == before[is_thing]).all()
    assert ((after == 2).sum() < (before == 2).sum() / 4) == (things == [1])


def test_main__without_a_split_nobody_knows_the_stuff(clip: Path) -> None:
    with pytest.raises(UserError, match="nothing tells its things; run pseudo_labels/classify_stuff_things"):
        run(clip)


def test_main__single_photos_have_no_neighbours(clip: Path) -> None:
    for folder in (clip / "photos", clip / "out" / "pseudo_semantic_raw_k3"):
        for path in folder.glob("f[1-4].png"):
            path.unlink()
    with pytest.raises(UserError, match="no frame has a neighbour in time"):
        run(clip)
