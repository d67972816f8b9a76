"""Training of DINOSAUR and instances from its slots, on a tiny root with the weight-free backbone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.structures import Draw
from pseudo_labels import convert_to_cups_format, generate_dinosaur_instances, train_dinosaur
from pseudo_labels.algorithms.instance_splitting import SlotSettings, slot_instances
from pseudo_labels.extract_dinov2_features import main as extract
from pseudo_labels.networks.dinosaur import load_dinosaur, token_coordinates
from pseudo_labels.networks.dinosaur_training import DinosaurFit, TokenCrops
from pseudo_labels.steps.step import Folder, Frame
from pseudo_labels.train_dinosaur import build_parser

CAR = 13
SMALL = "--num_slots 4 --slot_dim 8 --decoder_dim 16 --decoder_layers 1 --batch_size 2 --decode_tokens 40"


@pytest.fixture
def root(tiny_root: Any) -> Any:
    """The tiny root with texton features, 16 x 32 tokens."""
    extract(["--cityscapes_root", str(tiny_root.path), "--backbone", "texton", "--num_workers", "0"])
    return tiny_root


def train(root: Any, *more: str) -> int:
    fixed = ["--cityscapes_root", str(root.path), "--backbone", "texton", "--device", "cpu", "--steps", "4"]
    return train_dinosaur.main([*fixed, "--num_workers", "0", "--precision", "32", *SMALL.split(), *more])


def generate(root: Any, *more: str) -> int:
    fixed = ["--cityscapes_root", str(root.path), "--device", "cpu", "--num_workers", "1", "--min_area", "4"]
    return generate_dinosaur_instances.main([*fixed, *more])


def instances(root: Any, method: str = "dinosaur") -> list[np.ndarray]:
    return [read_ids(root.file(f"pseudo_instance_{method}", f"{stem}.png")) for stem in root.stems]


def test_main__end_to_end(root: Any) -> None:
    train(root)
    assert (root.path / "dinosaur" / "media" / "step_000004.png").is_file()
    assert generate(root, "--show", "1", "--batch_size", "2") == 0
    for stem, ids in zip(root.stems, instances(root), strict=True):
        cars = read_ids(root.file("pseudo_semantic_mapped_k300", f"{stem}.png")) == CAR
        assert ids.dtype == np.uint16 and ids.max() >= 1
        assert not ids[~cars].any()
        areas = np.bincount(ids.ravel())[1:]
        assert areas.min() >= 4 and (np.diff(areas) <= 0).all()
    output = root.path / "pseudo_instance_dinosaur"
    assert (output / "contact_sheet.png").is_file()
    provenance = read_provenance(output)
    assert provenance is not None and provenance["uses_ground_truth"] is False
    assert [Path(entry["name"]).name for entry in provenance["weights"]] == ["dinosaur.pth"]
    convert = ["--cityscapes_root", str(root.path), "--instance_subdir", output.name, "--trainid_input"]
    assert convert_to_cups_format.main(convert) == 0


def test_main__labels_behind_the_network_are_not_forgotten(root: Any) -> None:
    train(root)
    path = root.path / "dinosaur" / "provenance.json"
    path.write_text(path.read_text().replace('"uses_ground_truth": false', '"uses_ground_truth": true'))
    generate(root)
    provenance = read_provenance(root.path / "pseudo_instance_dinosaur")
    assert provenance is not None and provenance["uses_ground_truth"] is True


def test_main__weights_of_unknown_origin_make_unknown_instances(root: Any, tmp_path: Path) -> None:
    """Their folder went into the provenance as an input, and folders without provenance count as raw data."""
    train(root)
    copied = shutil.copy(root.path / "dinosaur" / "dinosaur.pth", tmp_path)
    generate(root, "--checkpoint", str(copied))
    provenance = read_provenance(root.path / "pseudo_instance_dinosaur")
    assert provenance is not None and provenance["uses_ground_truth"] is None


def test_generate__same_slots_in_any_batch_and_order(root: Any) -> None:
    train(root)
    generate(root, "--batch_size", "2")
    generate(root, "--method_name", "alone", "--batch_size", "1", "--num_shards", "2", "--shard", "1")
    alone = read_ids(root.file("pseudo_instance_alone", f"{root.stems[1]}.png"))
    assert np.array_equal(instances(root)[1], alone)
    generate(root, "--method_name", "other_seed", "--seed", "1")
    assert not all(map(np.array_equal, instances(root), instances(root, "other_seed")))


def test_main__plain_folder_without_semantics(root: Any, tmp_path: Path) -> None:
    images, output = root.path / "leftImg8bit" / "train" / "aachen", tmp_path / "out"
    plain = ["--image_dir", str(images), "--output_root", str(output), "--device", "cpu"]
    extract([*plain, "--backbone", "texton", "--num_workers", "0"])
    small = [*plain, "--backbone", "texton", "--steps", "2", "--precision", "32", "--num_workers", "0"]
    train_dinosaur.main([*small, *SMALL.split()])
    slots = ["--proposals", "slots", "--min_thing_share", "0", "--num_slots", "3", "--min_area", "1"]
    assert generate_dinosaur_instances.main([*plain, *slots]) == 0
    ids = read_ids(output / "pseudo_instance_dinosaur" / f"{root.stems[0]}_leftImg8bit.png")
    assert ids.shape == (64, 128) and ids.min() >= 1


def test_generate__labels_smaller_than_images_keep_their_size(root: Any) -> None:
    train(root, "--steps", "1")
    for stem in root.stems:
        path = root.file("pseudo_semantic_mapped_k300", f"{stem}.png")
        write_png(path, cv2.resize(read_ids(path), (96, 48), interpolation=cv2.INTER_NEAREST))
    generate(root)
    assert instances(root)[0].shape == (48, 96)


def weights(folder: Path) -> torch.Tensor:
    network, _ = load_dinosaur(folder / "dinosaur.pth")
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_train__a_killed_training_goes_on_where_it_was(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train(root, "--checkpoint_dir", str(root.path / "whole"), "--save_every", "2")
    losses = DinosaurFit.losses

    def dying(fit: DinosaurFit, batch: Any) -> Any:
        if fit.global_step == 3:
            raise KeyboardInterrupt
        return losses(fit, batch)

    killed = ("--checkpoint_dir", str(root.path / "killed"), "--save_every", "2")
    with monkeypatch.context() as patch:
        patch.setattr(DinosaurFit, "losses", dying)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(root, *killed)
    assert not (root.path / "killed" / "dinosaur.pth").exists()
    train(root, *killed)
    assert torch.equal(weights(root.path / "whole"), weights(root.path / "killed"))
    with pytest.raises(UserError, match=r"--num_slots 4"):
        train(root, *killed, "--num_slots", "5")


def test_learning_rate__as_in_the_paper() -> None:
    """10 k steps of warm-up, then half every 100 k of 500 k steps."""
    args = build_parser().parse_args([])
    fit = DinosaurFit(args, torch.nn.Module(), None, Path())  # type: ignore[arg-type]
    factors = [fit.learning_rate_factor(step) for step in (0, 4_999, 9_999, 110_000, 210_000)]
    assert (args.lr, args.steps, args.batch_size, args.clip) == (4e-4, 500_000, 64, 1.0)
    np.testing.assert_allclose(factors, [1e-4, 0.5, 1.0, 0.5, 0.25])


def test_token_crops__features_keep_their_place(tmp_path: Path) -> None:
    """Feature (row, column) at each token: where a crop was not mirrored, coordinates say the same."""
    folder, frame = Folder(tmp_path, "features_texton", ".npy"), Frame("a", Path("train"), Path("a.png"))
    where = token_coordinates(6, 10).numpy()
    write_npy(folder.path(frame), where.astype(np.float16))
    crops = TokenCrops([frame], folder, (6, 10), (4, 5), seed=0)
    seen = set()
    for number in range(200):
        item = crops[Draw(0, number)]
        assert item["features"].shape == (4, 5, 2)
        rows, columns = item["coordinates"].unbind(-1)
        mirrored = bool(item["features"][0, 0, 1] > item["features"][0, 1, 1])
        expected = torch.stack((rows, 1 - columns if mirrored else columns), dim=-1)
        torch.testing.assert_close(item["features"], expected, atol=1e-3, rtol=0)
        seen.add((mirrored, round(float(rows[0, 0]), 3), round(float(columns[0, 0]), 3)))
    assert len(seen) == 2 * 3 * 6
    again = crops[Draw(0, 7)]["features"]
    assert torch.equal(again, crops[Draw(0, 7)]["features"])


SLOTS = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [2, 2, 2, 2, 2, 2]])
SEMANTIC = np.array([[13, 13, 13, 13, 11, 13], [13, 13, 13, 13, 11, 13], [0, 0, 13, 0, 0, 0]], np.uint8)
"""Slot 0 holds two cars (columns 0-1 and 5), slot 1 a car and a person, slot 2 the street and a sliver."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            SlotSettings((11, 13), min_area=2, dilation=0),
            [[1, 1, 2, 2, 3, 4], [1, 1, 2, 2, 3, 4], [0, 0, 0, 0, 0, 0]],
        ),
        (
            SlotSettings((11, 13), min_area=2, dilation=1),
            [[2, 2, 1, 1, 3, 4], [2, 2, 1, 1, 3, 4], [0, 0, 1, 0, 0, 0]],
        ),
        (
            SlotSettings((11, 13), min_area=2, dilation=0, proposals="things"),
            [[2, 2, 1, 1, 1, 3], [2, 2, 1, 1, 1, 3], [0, 0, 0, 0, 0, 0]],
        ),
        (
            SlotSettings((13,), min_area=3, proposals="slots", min_thing_share=0.6),
            [[2, 2, 1, 1, 1, 0], [2, 2, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]],
        ),
    ],
    ids=["classes", "sliver given back", "things", "slots"],
)
def test_slot_instances__by_hand(settings: SlotSettings, expected: list[list[int]]) -> None:
    np.testing.assert_array_equal(slot_instances(SLOTS, SEMANTIC, settings), expected)


def test_slot_instances__without_semantics() -> None:
    found = slot_instances(SLOTS, None, SlotSettings((), min_area=1, proposals="slots", min_thing_share=0))
    np.testing.assert_array_equal(found, [[3, 3, 1, 1, 1, 4], [3, 3, 1, 1, 1, 4], [2, 2, 2, 2, 2, 2]])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--backbone", "dinov3_vitb16"), r"features_dinov3_vitb16: no such folder; extract the features"),
        (("--num_slots", "0"), r"--num_slots 0"),
        (("--crop", "0.5", "1.5"), r"--crop 0.5 1.5"),
        (("--position_grid", "0", "4"), r"--position_grid"),
        (("--decode_tokens", "-1"), r"--decode_tokens -1"),
        (("--half_life", "0"), r"--half_life"),
        (("--lr", "0"), r"--lr 0"),
    ],
)
def test_train__bad_input(root: Any, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(root, *extra)


def test_train__another_grid_is_refused(root: Any) -> None:
    write_npy(root.file("features_texton", f"{root.stems[1]}.npy"), np.zeros((16, 30, 39), np.float16))
    with pytest.raises(UserError, match=r"16x30 tokens, the first frame has 16x32"):
        train(root)


def test_generate__bad_input(root: Any) -> None:
    with pytest.raises(UserError, match=r"dinosaur.pth: no such file"):
        generate(root)
    train(root, "--steps", "1")
    for extra, message in (
        (("--semantic_subdir", "pseudo_semantic_none"), r"pseudo_semantic_none: no such folder"),
        (("--backbone", "none"), r"features_none: no such folder"),
        (("--min_area", "0"), r"--min_area 0"),
        (("--num_slots", "0"), r"--num_slots 0"),
        (("--min_thing_share", "2"), r"--min_thing_share"),
        (("--thing_classes", "-1"), r"--thing_classes -1"),
    ):
        with pytest.raises(UserError, match=message):
            generate(root, *extra)
    path = root.file("features_texton", f"{root.stems[0]}.npy")
    write_npy(path, np.zeros((16, 16, 39), np.float16))
    with pytest.raises(UserError, match=r"16x16 has not the shape of the labels, 64x128"):
        generate(root)
    write_npy(path, np.zeros((16, 32, 7), np.float16))
    with pytest.raises(UserError, match=r"7 channels, the network was trained with 39"):
        generate(root)
