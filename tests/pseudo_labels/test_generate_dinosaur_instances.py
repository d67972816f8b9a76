"""Instances from slots, on a tiny root with the weight-free backbone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from pseudo_labels import convert_to_cups_format, generate_dinosaur_instances, train_dinosaur
from pseudo_labels.extract_dinov2_features import main as extract

CAR = 13
SMALL = "--num_slots 4 --slot_dim 8 --decoder_dim 16 --decoder_layers 1 --batch_size 2 --decode_tokens 40"


def instances(root: Any, method: str = "dinosaur_mapped_k300") -> list[np.ndarray]:
    return [read_ids(root.file(f"pseudo_instance_{method}", f"{stem}.png")) for stem in root.stems]


def test_main__end_to_end(slots: Any) -> None:
    slots.train()
    assert (slots.root.path / "dinosaur" / "media" / "step_000004.png").is_file()
    assert slots.generate("--show", "1", "--batch_size", "2") == 0
    for stem, ids in zip(slots.root.stems, instances(slots.root), strict=True):
        cars = read_ids(slots.root.file("pseudo_semantic_mapped_k300", f"{stem}.png")) == CAR
        assert ids.dtype == np.uint16 and ids.max() >= 1
        assert not ids[~cars].any()
        areas = np.bincount(ids.ravel())[1:]
        assert areas.min() >= 4 and (np.diff(areas) <= 0).all()
    output = slots.root.path / "pseudo_instance_dinosaur_mapped_k300"
    assert (output / "contact_sheet.png").is_file()
    provenance = read_provenance(output)
    assert provenance is not None and provenance["uses_ground_truth"] is False
    assert [Path(entry["name"]).name for entry in provenance["weights"]] == ["dinosaur.pth"]
    convert = ["--cityscapes_root", str(slots.root.path), "--instance_subdir", output.name, "--trainid_input"]
    assert convert_to_cups_format.main(convert) == 0


def test_main__labels_behind_the_network_are_not_forgotten(slots: Any) -> None:
    slots.train()
    path = slots.root.path / "dinosaur" / "provenance.json"
    path.write_text(path.read_text().replace('"uses_ground_truth": false', '"uses_ground_truth": true'))
    slots.generate()
    provenance = read_provenance(slots.root.path / "pseudo_instance_dinosaur_mapped_k300")
    assert provenance is not None and provenance["uses_ground_truth"] is True


def test_main__weights_of_unknown_origin_make_unknown_instances(slots: Any, tmp_path: Path) -> None:
    """Their folder went into the provenance as an input, and folders without provenance count as raw data."""
    slots.train()
    copied = shutil.copy(slots.root.path / "dinosaur" / "dinosaur.pth", tmp_path)
    slots.generate("--checkpoint", str(copied))
    provenance = read_provenance(slots.root.path / "pseudo_instance_dinosaur_mapped_k300")
    assert provenance is not None and provenance["uses_ground_truth"] is None


def test_generate__same_slots_in_any_batch_and_order(slots: Any) -> None:
    slots.train()
    slots.generate("--batch_size", "2")
    slots.generate("--method_name", "alone", "--batch_size", "1", "--num_shards", "2", "--shard", "1")
    alone = read_ids(slots.root.file("pseudo_instance_alone", f"{slots.root.stems[1]}.png"))
    assert np.array_equal(instances(slots.root)[1], alone)
    slots.generate("--method_name", "other_seed", "--seed", "1")
    assert not all(map(np.array_equal, instances(slots.root), instances(slots.root, "other_seed")))


def test_main__plain_folder_without_semantics(slots: Any, tmp_path: Path) -> None:
    images, output = slots.root.path / "leftImg8bit" / "train" / "aachen", tmp_path / "out"
    plain = ["--image_dir", str(images), "--output_root", str(output), "--device", "cpu"]
    extract([*plain, "--backbone", "texton", "--num_workers", "0"])
    small = [*plain, "--backbone", "texton", "--steps", "2", "--precision", "32", "--num_workers", "0"]
    train_dinosaur.main([*small, *SMALL.split()])
    chosen = ["--proposals", "slots", "--min_thing_share", "0", "--num_slots", "3", "--min_area", "1"]
    assert generate_dinosaur_instances.main([*plain, *chosen]) == 0
    ids = read_ids(output / "pseudo_instance_dinosaur" / f"{slots.root.stems[0]}_leftImg8bit.png")
    assert ids.shape == (64, 128) and ids.min() >= 1


def test_generate__labels_smaller_than_images_keep_their_size(slots: Any) -> None:
    slots.train("--steps", "1")
    for stem in slots.root.stems:
        path = slots.root.file("pseudo_semantic_mapped_k300", f"{stem}.png")
        write_png(path, cv2.resize(read_ids(path), (96, 48), interpolation=cv2.INTER_NEAREST))
    slots.generate()
    assert instances(slots.root)[0].shape == (48, 96)


def test_generate__bad_input(slots: Any) -> None:
    with pytest.raises(UserError, match=r"dinosaur.pth: no such file"):
        slots.generate()
    slots.train("--steps", "1")
    for extra, message in (
        (("--semantic_subdir", "pseudo_semantic_none"), r"pseudo_semantic_none: no such folder"),
        (("--min_area", "0"), r"`min_area` 0"),
        (("--num_slots", "0"), r"`num_slots` 0"),
        (("--min_thing_share", "2"), r"`min_thing_share`"),
        (("--thing_classes", "-1"), r"`thing_classes` -1"),
    ):
        with pytest.raises(UserError, match=message):
            slots.generate(*extra)
    path = slots.root.file("features_texton", f"{slots.root.stems[0]}.npy")
    write_npy(path, np.zeros((16, 16, 39), np.float16))
    with pytest.raises(UserError, match=r"16x16 has not the shape of the labels, 64x128"):
        slots.generate()
    write_npy(path, np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, the network was trained with 39"):
        slots.generate()
