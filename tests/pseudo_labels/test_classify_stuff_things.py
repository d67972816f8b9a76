"""Things and stuff from depth."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from cups.errors import NothingFound, UserError
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from pseudo_labels.classify_stuff_things import main
from pseudo_labels.inputs.labels import read_split, thing_classes
from pseudo_labels.steps.frames import Folder
from pseudo_labels.steps.label_kind import LabelKind
from tests.pseudo_labels.conftest import write_stereo_depth


@pytest.fixture
def street_root(tiny_root: Any) -> Any:
    """A root with depth."""
    write_stereo_depth(tiny_root)
    return tiny_root


def run(root: Any, *more: str) -> int:
    folder = ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    return main(["--cityscapes_root", str(root.path), *folder, *more])


def split_file(root: Any) -> Any:
    return root.path / "pseudo_semantic_mapped_k300" / "thing_stuff_split.json"


def test_main__cars_are_things_road_and_building_are_stuff(street_root: Any, capsys: Any) -> None:
    run(street_root)
    split = read_split(split_file(street_root))
    assert split.things == (13,)
    assert set(split.stuffs) == set(range(14)) - {13}
    content = json.loads(split_file(street_root).read_text())
    assert content["uses_ground_truth"] is False
    assert content["classes"]["13"]["score"] > 0.6 > 0.2 > content["classes"]["0"]["score"]
    assert "| 13 | thing |" in capsys.readouterr().out


def test_main__splitting_the_clusters_does_not_change_the_kind(street_root: Any) -> None:
    # Overclusters: cars are three classes (13, 14, 15), the building two (2, 3).
    rng = np.random.default_rng(0)
    for stem in street_root.stems:
        path = street_root.file("pseudo_semantic_mapped_k300", f"{stem}.png")
        semantic = read_ids(path)
        noise = rng.integers(0, 3, semantic.shape).astype(np.uint8)
        semantic = np.where(semantic == 13, 13 + noise, np.where(semantic == 2, 2 + noise % 2, semantic))
        write_png(path, semantic.astype(np.uint8))
    run(street_root)
    assert sorted(read_split(split_file(street_root)).things) == [13, 14, 15]


def test_main__number_of_things_and_own_file(street_root: Any, tmp_path: Any) -> None:
    path = tmp_path / "mine.json"
    run(street_root, "--num_things", "2", "--output_json", str(path), "--num_semantic_classes", "20")
    split = read_split(path)
    assert len(split.things) == 2 and split.things[0] == 13 and split.pseudo_classes.total == 20
    assert not split_file(street_root).exists()


def test_main__workers_change_nothing(street_root: Any) -> None:
    run(street_root)
    alone = split_file(street_root).read_text()
    run(street_root, "--num_workers", "1")
    assert split_file(street_root).read_text() == alone


def test_main__depth_with_blurred_outlines(street_root: Any) -> None:
    """In a network's depth nothing is farther right beside a car: no class at all was a thing."""
    for stem in street_root.stems:
        path = street_root.file("depth_spidepth", f"{stem}.npy")
        depth = np.load(path)
        np.save(path, (1 / cv2.GaussianBlur(1 / depth.astype(np.float32), (0, 0), 3)).astype(depth.dtype))
    with pytest.raises(NothingFound, match=r"no class is a thing; .*`depth_blur`.*add `accept_nothing`"):
        run(street_root)
    assert read_split(split_file(street_root)).things == ()
    picture = split_file(street_root).parent / "nothing_found.png"
    assert picture.is_file()
    folder = Folder(street_root.path, split_file(street_root).parent.name, ".png")
    with pytest.raises(NothingFound, match=r"names no thing; .*`depth_blur`"):
        thing_classes(folder)
    assert thing_classes(folder, accept_nothing=True) == ()
    assert run(street_root, "--accept_nothing") == 0
    run(street_root, "--grad_threshold", "0.03", "--depth_blur", "0.1")
    assert read_split(split_file(street_root)).things == (13,)
    assert not picture.exists()


@pytest.mark.parametrize("flags", [("--grad_threshold", "0"), ("--depth_blur", "0.5"), ("--num_things", "0")])
def test_main__bad_settings(street_root: Any, flags: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"`{flags[0][2:]}`"):
        run(street_root, *flags)


def test_main__no_street_anywhere_says_so(street_root: Any) -> None:
    for stem in street_root.stems:
        np.save(street_root.file("depth_spidepth", f"{stem}.npy"), np.full((64, 128), 5, np.float16))
    with pytest.raises(
        NothingFound, match=r"depth_spidepth: no of 2 frames show a street .* check the depth"
    ):
        run(street_root)
    content = json.loads(split_file(street_root).read_text())
    assert content["things"] == [] and "no of 2 frames" in content["nothing_found"]
    assert (split_file(street_root).parent / "nothing_found.png").is_file()


def test_main__a_street_in_half_of_the_frames_is_enough(street_root: Any) -> None:
    np.save(
        street_root.file("depth_spidepth", f"{street_root.stems[0]}.npy"), np.full((64, 128), 5, np.float16)
    )
    run(street_root)
    assert read_split(split_file(street_root)).things == (13,)


def test_main__the_folder_tells_the_number_of_classes(street_root: Any) -> None:
    folder = split_file(street_root).parent
    write_provenance(folder, script="x", arguments={}, labels=LabelKind("trainId", 19).content())
    run(street_root)
    split = read_split(split_file(street_root))
    assert len(split.things) + len(split.stuffs) == 19
    with pytest.raises(UserError, match=r"^`num_semantic_classes` 20: "):
        run(street_root, "--num_semantic_classes", "20")
