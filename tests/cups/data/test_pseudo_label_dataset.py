"""The CUPS format and the alignment rule."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cups.data import PseudoLabelDataset
from cups.data.pseudo_label_dataset import (
    ALL_PIXELS,
    INSIDE_INSTANCES,
    align_labels,
    load_statistics,
)
from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.files import write_json
from cups.io.png import write_png
from cups.structures import Draw, ThingStuffSplit
from cups.taxonomy import WIDE_VOID

STEM = "aachen_000000_000019"


def _write_statistics(folder: Path, inside: list[float], total: list[float]) -> None:
    torch.save(
        {ALL_PIXELS: torch.tensor(total), INSIDE_INSTANCES: torch.tensor(inside)}, folder / "split_1.pt"
    )


def _write_frame(
    root: Path, image: np.ndarray, semantic: np.ndarray, instance: np.ndarray
) -> tuple[Path, Path]:
    pseudo = root / "pseudo"
    write_png(root / "leftImg8bit/train/aachen" / f"{STEM}_leftImg8bit.png", image)
    write_png(pseudo / f"{STEM}_leftImg8bit_semantic.png", semantic)
    write_png(pseudo / f"{STEM}_leftImg8bit_instance.png", instance)
    return root, pseudo


def _scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene whose image is a function of its labels: class 0 black, 1 white, 2 (an object) grey."""
    semantic = np.zeros((height, width), np.uint8)
    semantic[height // 4 : height // 2, width // 8 : width // 2] = 1
    semantic[height // 2 :, 3 * width // 4 :] = 2
    instance = (semantic == 2).astype(np.uint16)
    gray = np.choose(semantic, [0, 255, 128]).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2), semantic, instance


@pytest.mark.parametrize("label_size", [(1024, 2048), (512, 1024), (640, 1280)])
def test_load__labels_of_any_stored_size_stay_on_the_image(
    tmp_path: Path, label_size: tuple[int, int]
) -> None:
    """Guards the rule that cost 11-14 PQ: upstream scales the image only, and labels stored at 1024x2048 are
    then cropped to their central window, up to 384 pixels beside what the image shows."""
    image, _, _ = _scene(1024, 2048)
    _, semantic, instance = _scene(*label_size)
    root, pseudo = _write_frame(tmp_path, image, semantic, instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    sample = PseudoLabelDataset(root, pseudo, scale=0.625, crop=(608, 1104)).load(0)
    assert sample.size == (608, 1104)
    # Split is things (2,), stuffs (0, 1): channels 0 thing, 1 class 0, 2 class 1.
    expected = torch.tensor([128, 0, 255])[sample.sem_seg] / 255.0
    # A bilinear image has one blended pixel at each border, nowhere else may it differ.
    wrong = (sample.image[0] - expected).abs() > 0.02
    kernel = np.ones((3, 3), np.uint8)
    border = cv2.morphologyEx(sample.sem_seg.numpy().astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    assert not (wrong.numpy() & ~border).any()
    assert torch.equal(sample.masks[0], sample.sem_seg == 0)


def test_align_labels__wrong_aspect_names_file_and_sizes() -> None:
    with pytest.raises(UserError, match=r"a\.png: size 500x1024 does not fit the image 1024x2048"):
        align_labels(torch.zeros(500, 1024, dtype=torch.int64), (1024, 2048), (640, 1280), "a.png")


def test_load__wrong_aspect_is_an_error(tmp_path: Path) -> None:
    image, semantic, instance = _scene(64, 128)
    root, pseudo = _write_frame(tmp_path, image, semantic[:50], instance[:50])
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    with pytest.raises(UserError, match=r"semantic\.png: size 50x128"):
        PseudoLabelDataset(root, pseudo, scale=1.0, crop=(64, 128))


def test_load__instances_take_their_majority_class_and_stuff_instances_become_void(tmp_path: Path) -> None:
    semantic = np.zeros((32, 32), np.uint8)
    instance = np.zeros((32, 32), np.uint16)
    semantic[:8, :8], semantic[:2, :2], instance[:8, :8] = 2, 1, 5  # mostly class 2 (thing 0), partly class 1
    instance[20:24, 20:24] = 9  # lies on class 0, stuff
    semantic[28:, :4] = 2  # a thing region without an instance
    root, pseudo = _write_frame(tmp_path, np.zeros((32, 32, 3), np.uint8), semantic, instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    options = {"scale": 1.0, "crop": (32, 32)}
    sample = PseudoLabelDataset(root, pseudo, **options).load(0)
    assert sample.classes.tolist() == [0]
    assert int(sample.masks.sum()) == 64
    assert (sample.sem_seg[20:24, 20:24] == WIDE_VOID).all()
    assert (sample.sem_seg[28:, :4] == 0).all()
    strict = PseudoLabelDataset(root, pseudo, ignore_unknown_things=True, **options).load(0)
    assert (strict.sem_seg[28:, :4] == WIDE_VOID).all()
    assert (strict.sem_seg[4:8, 4:8] == 0).all()


@pytest.mark.parametrize(("count", "dtype"), [(254, np.uint8), (255, np.uint16), (300, np.uint16)])
def test_load__void_is_no_class_however_many_there_are(tmp_path: Path, count: int, dtype: type) -> None:
    """The channel of a 256th class collided with the ignore value 255, and padding was its label."""
    stuff, thing = min(255, count - 1), count - 2
    semantic = np.full((32, 32), stuff, dtype)
    semantic[:8, :8] = thing
    semantic[8:16] = np.iinfo(dtype).max
    instance = (semantic == thing).astype(np.uint16)
    root, pseudo = _write_frame(tmp_path, np.zeros((32, 32, 3), np.uint8), semantic, instance)
    inside = [0.0] * count
    inside[thing] = 5.0
    _write_statistics(pseudo, inside, [10.0] * count)
    data = PseudoLabelDataset(root, pseudo, scale=1.0, crop=(40, 40), fit="scale")
    sample = data.load(0)
    assert data.split.things == (thing,)
    assert sample.classes.tolist() == [0]
    channel = data.split.stuffs.index(stuff) + 1
    assert set(sample.sem_seg.unique().tolist()) == {0, channel, WIDE_VOID}
    assert (sample.sem_seg[:4] == WIDE_VOID).all(), "padding"
    assert int((sample.sem_seg == channel).sum()) == 32 * 24 - 64


def test_dataset__takes_the_split_beside_the_labels(tmp_path: Path) -> None:
    """All statistics say that class 1 is the thing; the labels say class 0, and they decide."""
    image = np.zeros((32, 64, 3), np.uint8)
    semantic, instance = np.zeros((32, 64), np.uint8), np.zeros((32, 64), np.uint16)
    semantic[:, 32:] = 1
    instance[:8, 32:40] = 1
    root, pseudo = _write_frame(tmp_path, image, semantic, instance)
    _write_statistics(pseudo, [0.0, 64.0], [1024.0, 1024.0])
    assert PseudoLabelDataset(root, pseudo, 1.0, (32, 64)).split == ThingStuffSplit((1,), (0,))
    write_json(pseudo / SPLIT_FILE, {"things": [0], "stuffs": [1]})
    assert PseudoLabelDataset(root, pseudo, 1.0, (32, 64)).split == ThingStuffSplit((0,), (1,))
    overridden = PseudoLabelDataset(root, pseudo, 1.0, (32, 64), thing_stuff_threshold=0.08)
    assert overridden.split == ThingStuffSplit((1,), (0,))


def test_load_statistics__files_are_summed_and_junk_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.pt statistics"):
        load_statistics(tmp_path)
    for number in (1, 2):
        torch.save(
            {ALL_PIXELS: torch.ones(3), INSIDE_INSTANCES: torch.ones(3) * number}, tmp_path / f"{number}.pt"
        )
    total, inside = load_statistics(tmp_path)
    assert total.tolist() == [2, 2, 2]
    assert inside.tolist() == [3, 3, 3]
    (tmp_path / "junk.pt").write_bytes(b"not a tensor")
    with pytest.raises(UserError, match=r"junk\.pt: not a checkpoint that torch can read"):
        load_statistics(tmp_path)


def test_dataset__bad_folders(tmp_path: Path) -> None:
    missing = tmp_path / "cups_pseudo_labels"
    with pytest.raises(
        UserError, match=r"cups_pseudo_labels: no such folder; give the .* with `pseudo_root`$"
    ):
        PseudoLabelDataset(tmp_path, missing)
    for name in ("cups_pseudo_labels_raw_k50", "cups_pseudo_labels_raw_k300", "pseudo_semantic_raw_k300"):
        (tmp_path / name).mkdir()
    beside = (
        r"beside it lie cups_pseudo_labels_raw_k300, cups_pseudo_labels_raw_k50: give one with `pseudo_root`$"
    )
    with pytest.raises(UserError, match=f"cups_pseudo_labels: no such folder; {beside}"):
        PseudoLabelDataset(tmp_path, missing)
    with pytest.raises(UserError, match=r"holds no \*_leftImg8bit_semantic\.png"):
        PseudoLabelDataset(tmp_path, tmp_path)
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(UserError, match=r"train\.json: is no folder .*convert_other_labels\.py on labels of"):
        PseudoLabelDataset(tmp_path, tmp_path / "train.json")
    image, semantic, instance = _scene(32, 64)
    root, pseudo = _write_frame(tmp_path, image, semantic, instance * 0)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    with pytest.raises(UserError, match="no frame has an instance"):
        PseudoLabelDataset(root, pseudo)
    (root / "leftImg8bit/train/aachen" / f"{STEM}_leftImg8bit.png").unlink()
    with pytest.raises(UserError, match=f"no image for {STEM}"):
        PseudoLabelDataset(root, pseudo, only_non_empty=False)


def test_load__truncated_image_is_named(tmp_path: Path) -> None:
    """OpenCV fills the missing rows of a truncated PNG without a word."""
    image, semantic, instance = _scene(64, 128)
    image = np.random.default_rng(0).integers(0, 255, image.shape, dtype=np.uint8)
    root, pseudo = _write_frame(tmp_path, image, semantic, instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    path = root / "leftImg8bit/train/aachen" / f"{STEM}_leftImg8bit.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=f"{STEM}_leftImg8bit.png: truncated PNG"):
        PseudoLabelDataset(root, pseudo, scale=1.0, crop=(64, 128))


def test_dataset__plain_folder_of_images(tmp_path: Path) -> None:
    _, semantic, instance = _scene(32, 64)
    write_png(tmp_path / "photos/trip/one.png", np.zeros((32, 64, 3), np.uint8))
    pseudo = tmp_path / "pseudo"
    write_png(pseudo / "one_leftImg8bit_semantic.png", semantic)
    write_png(pseudo / "one_leftImg8bit_instance.png", instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    sample = PseudoLabelDataset(tmp_path / "photos", pseudo, scale=1.0, crop=(32, 64)).load(0)
    assert sample.name == "one"


def test_getitem__augmentation_depends_on_the_draw_only(tmp_path: Path) -> None:
    image, semantic, instance = _scene(32, 64)
    root, pseudo = _write_frame(tmp_path, image, semantic, instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    data = PseudoLabelDataset(
        root,
        pseudo,
        scale=1.0,
        crop=(32, 64),
        augment=lambda sample, generator: sample.replace(image=torch.rand(3, 32, 64, generator=generator)),
    )
    first, again, other = data[Draw(0, 5)], data[Draw(0, 5)], data[Draw(0, 6)]
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_getitem__a_wide_frame_is_cut_where_the_draw_says(tmp_path: Path) -> None:
    """The centre was cut out in every epoch: of a large photo the rest was never seen."""
    image, semantic, instance = _scene(64, 320)
    root, pseudo = _write_frame(tmp_path, image, semantic, instance)
    _write_statistics(pseudo, [0, 0, 10], [10, 10, 10])
    data = PseudoLabelDataset(root, pseudo, scale=1.0, crop=(64, 128))
    seen = [data[Draw(0, number)] for number in range(12)]
    shares = {float((sample.sem_seg == 0).float().mean()) for sample in seen}
    assert len(shares) > 4, "the object on the right is seen whole, in part and not at all"
    assert torch.equal(data[Draw(0, 5)].image, seen[5].image)
    for sample in (*seen, data.load(0)):
        assert sample.size == (64, 128)
        shown = torch.tensor([128, 0, 255])[sample.sem_seg] / 255.0
        assert torch.allclose(sample.image[0], shown, atol=0.01), "labels move with the image"


def test_hold_out__some_images_are_measured_and_not_trained_on(tmp_path: Path) -> None:
    image, semantic, instance = _scene(32, 64)
    for number in range(8):
        write_png(tmp_path / "photos" / f"{number}.png", image)
        write_png(tmp_path / "pseudo" / f"{number}_leftImg8bit_semantic.png", semantic)
        write_png(tmp_path / "pseudo" / f"{number}_leftImg8bit_instance.png", instance)
    _write_statistics(tmp_path / "pseudo", [0, 0, 10], [10, 10, 10])
    data = PseudoLabelDataset(tmp_path / "photos", tmp_path / "pseudo", 1.0, (32, 64))
    rest, held = data.hold_out(16)
    assert (len(rest), len(held), len(data)) == (6, 2, 8)
    assert not set(rest.stems) & set(held.names)
    assert tuple(held[1].image.shape) == (3, 32, 64)
    few = PseudoLabelDataset(tmp_path / "photos", tmp_path / "pseudo", 1.0, (32, 64), max_images=3)
    assert [len(part) for part in few.hold_out(16)] == [3, 3], "too few to do without one"
