"""Displaced labels: what a loader shows that scales the image alone and crops both around their centres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cups.data import PseudoLabelDataset
from cups.errors import UserError
from cups.io.file_names import ALL_PIXELS, IMAGE_SUFFIX, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from cups.io.provenance import read_provenance, write_provenance
from cups.ops.resize import scaled_size
from studies import displace_labels
from studies.displacement import displaced

STEM, CLASSES = "city_000000_000000", 4


def upstream_window(labels: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """CUPS's loader: `CenterCrop(crop)` of labels that were never scaled (slices written out)."""
    top, left = ((side - part) // 2 for side, part in zip(labels.shape, crop, strict=True))
    return labels[top : top + crop[0], left : left + crop[1]]


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A frame of 96x192, its labels, which its red channel repeats, and one instance."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, CLASSES, (1, 1, 12, 24)).astype(np.float32))
    semantic = F.interpolate(coarse, scale_factor=8, mode="nearest")[0, 0].numpy().astype(np.uint8)
    root, labels = tmp_path / "data", tmp_path / "labels"
    image = np.repeat(semantic[..., None] * 60, 3, axis=2)
    write_png(root / "leftImg8bit" / "train" / "city" / f"{STEM}{IMAGE_SUFFIX}", image)
    write_png(labels / f"{STEM}{SEMANTIC_SUFFIX}", semantic)
    write_png(labels / f"{STEM}{INSTANCE_SUFFIX}", (semantic == 0).astype(np.uint16))
    counts = {ALL_PIXELS: torch.full((CLASSES,), 100.0), INSIDE_INSTANCES: torch.tensor([100.0, 0, 0, 0])}
    torch.save(counts, labels / "pseudo_classes_split_1.pt")
    write_provenance(labels, script="test", arguments={}, uses_ground_truth=True)
    return root, labels, semantic


def displace(labels: Path, output: Path, scale: float = 0.625) -> int:
    flags = ("--pseudo_root", labels, "--output_dir", output, "--scale", scale)
    return displace_labels.main([str(flag) for flag in flags])


@pytest.mark.parametrize("crop", [(60, 120), (40, 96)])
def test_main__our_loader_then_shows_upstreams_window(
    labelled: tuple[Path, Path, np.ndarray], tmp_path: Path, crop: tuple[int, int]
) -> None:
    root, labels, semantic = labelled
    assert displace(labels, tmp_path / "displaced") == 0
    shown = PseudoLabelDataset(root, tmp_path / "displaced", 0.625, crop, fit="scale").load(0)
    expected = upstream_window(semantic, crop)
    # Class 0 is the thing (channel 0), the stuff follows by its id.
    assert np.array_equal(shown.sem_seg.numpy(), expected)
    assert np.array_equal(shown.masks[0].numpy(), expected == 0)


def test_main__image_stays_and_labels_no_longer_fit_it(
    labelled: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    root, labels, _ = labelled
    displace(labels, tmp_path / "displaced")
    right, wrong = (
        PseudoLabelDataset(root, folder, 0.625, (60, 120)).load(0)
        for folder in (labels, tmp_path / "displaced")
    )
    assert torch.equal(right.image, wrong.image)
    drawn = (right.image[0] * 255 / 60).round()  # the class that the image shows; blurred at borders
    assert (right.sem_seg == drawn).float().mean() > 0.8
    assert (wrong.sem_seg == drawn).float().mean() < 0.5


def test_main__carries_statistics_and_provenance(
    labelled: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    _, labels, semantic = labelled
    displace(labels, tmp_path / "displaced")
    name = "pseudo_classes_split_1.pt"
    assert (tmp_path / "displaced" / name).read_bytes() == (labels / name).read_bytes()
    assert (read_provenance(tmp_path / "displaced") or {})["uses_ground_truth"] is True
    window = displaced(semantic.astype(np.uint16), 0.625)
    assert window.dtype == np.uint16 and window.shape == scaled_size((96, 192), 0.625) == (60, 120)


def test_main__bad_input(labelled: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`scale` 1\.0: must be below 1"):
        displace(labelled[1], tmp_path / "displaced", 1.0)
    with pytest.raises(UserError, match=r"holds no \*_leftImg8bit_semantic"):
        displace(tmp_path / "nothing", tmp_path / "displaced")
