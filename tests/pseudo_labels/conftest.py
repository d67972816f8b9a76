"""A tiny Cityscapes root: two frames of a street of boards, with two overlapping cars, and all inputs.

And perfect labels of that street in all forms: every score is known.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from pseudo_labels import (
    generate_depth_spidepth,
    generate_dinosaur_instances,
    generate_refined_semantics,
    generate_semantic_pseudolabels_cause,
    train_cause,
    train_dinosaur,
    train_joint_refine_net,
    train_refine_net,
)
from pseudo_labels.convert_to_cups_format import main as convert
from pseudo_labels.extract_dinov2_features import main as extract
from tests.pseudo_labels.textures import SMALL, write_textures

HEIGHT, WIDTH, FOCAL, HORIZON, CAMERA, BASELINE = 64, 128, 140.0, 29.0, 1.3, 0.22
STEMS = ("aachen_000000_000019", "aachen_000001_000019")
ROAD, BUILDING, CAR = 0, 2, 13


def render(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth (H, W) metres, trainIds and gtFine instanceIds of a street with two overlapping cars."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    ground = FOCAL * CAMERA / np.maximum(rows - HORIZON, 1e-3)
    depth = np.minimum(ground, 30.0)
    train_ids = np.where(ground < 30.0, ROAD, BUILDING).astype(np.uint8)
    instances = np.where(ground < 30.0, 7, 11).astype(np.uint16)
    # (left edge in metres, distance, width, height); the second car hides part of the first.
    for number, (x, z, width, height) in enumerate(((-1.5, 9.0, 3.0, 1.5), (0.6, 6.5, 2.2, 1.5))):
        left = WIDTH / 2 + FOCAL * (x + shift) / z
        board = (columns >= left) & (columns < left + FOCAL * width / z)
        board &= (rows >= HORIZON + FOCAL * (CAMERA - height) / z) & (rows < HORIZON + FOCAL * CAMERA / z)
        depth[board], train_ids[board], instances[board] = z, CAR, 26000 + number
    return depth, train_ids, instances


@dataclass(frozen=True)
class Root:
    """The folder and the two stems in it."""

    path: Path
    stems: tuple[str, ...] = STEMS

    def file(self, folder: str, name: str) -> Path:
        """Path of a file of the train split."""
        return self.path / folder / "train" / "aachen" / name


def write_stereo_depth(root: Root) -> None:
    """Write the depth of the disparity files; without processes, which take longer to start."""
    words = ["--cityscapes_root", str(root.path), "--source", "disparity", "--num_workers", "0"]
    generate_depth_spidepth.main(words)


@pytest.fixture
def tiny_root(tmp_path: Path) -> Root:
    """Images, disparity, camera, gtFine, and perfect trainId semantics as `pseudo_semantic_mapped_k300`."""
    root = Root(tmp_path / "cityscapes")
    for number, stem in enumerate(STEMS):
        depth, train_ids, instances = render(0.2 * number)
        disparity = np.round(BASELINE * FOCAL / depth * 256 + 1).astype(np.uint16)
        write_png(
            root.file("leftImg8bit", f"{stem}_leftImg8bit.png"),
            np.repeat((train_ids * 12)[..., None], 3, axis=2),
        )
        write_png(root.file("disparity", f"{stem}_disparity.png"), disparity)
        camera = {"intrinsic": {"fx": FOCAL}, "extrinsic": {"baseline": BASELINE}}
        path = root.file("camera", f"{stem}_camera.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(camera))
        label_ids = np.minimum(instances, np.where(instances >= 1000, 26, 255)).astype(np.uint8)
        write_png(root.file("gtFine", f"{stem}_gtFine_labelIds.png"), label_ids)
        write_png(root.file("gtFine", f"{stem}_gtFine_instanceIds.png"), instances)
        write_png(root.file("pseudo_semantic_mapped_k300", f"{stem}.png"), train_ids)
    write_provenance(root.path / "pseudo_semantic_mapped_k300", script="test", arguments={})
    return root


# Road 0 -> clusters 5 and 3 (left and right half), building 2 -> 0, car 13 -> 1; 2 and 4 stay empty.
CLUSTERS = np.zeros(256, np.uint8)
CLUSTERS[[0, 2, 13]] = 5, 0, 1


@pytest.fixture
def perfect_root(tiny_root: Any) -> Any:
    """Perfect instances, six clusters (`pseudo_semantic_raw_k6`), and `cups_pseudo_labels` of them."""
    for stem in tiny_root.stems:
        semantic = read_ids(tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        clusters = CLUSTERS[semantic]
        right = np.arange(clusters.shape[1]) >= clusters.shape[1] // 2
        clusters[(clusters == 5) & right] = 3
        write_png(tiny_root.file("pseudo_semantic_raw_k6", f"{stem}.png"), clusters)
        truth = read_ids(tiny_root.file("gtFine", f"{stem}_gtFine_instanceIds.png"))
        instances = np.where(truth >= 26000, truth - 26000 + 1, 0).astype(np.uint16)
        write_png(tiny_root.file("pseudo_instance_depth_guided_mapped_k300", f"{stem}.png"), instances)
    for name in ("pseudo_semantic_raw_k6", "pseudo_instance_depth_guided_mapped_k300"):
        write_provenance(tiny_root.path / name, script="test", arguments={})
    labels = ["--num_semantic_classes", "6", "--output_dir", str(tiny_root.path / "cups_pseudo_labels")]
    inputs = ["--instance_subdir", "pseudo_instance_depth_guided_mapped_k300", "--thing_classes", "1"]
    convert(["--cityscapes_root", str(tiny_root.path), *labels, *inputs])
    return tiny_root


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of four striped images with heads trained on them, their codes and clusters; left as it is."""
    root = tmp_path_factory.mktemp("textures")
    write_textures(root)
    common = ["--cityscapes_root", str(root), "--backbone", "texton"]
    train_cause.main([*common, *SMALL])
    generate_semantic_pseudolabels_cause.main(common)
    return root


@pytest.fixture
def texton_root(tiny_root: Any) -> Any:
    """The tiny root with texton features, 16 x 32 tokens."""
    extract(["--cityscapes_root", str(tiny_root.path), "--backbone", "texton", "--num_workers", "0"])
    return tiny_root


@dataclass(frozen=True)
class Scripts:
    """A network's training and use on a root; further flags replace those that are given here."""

    root: Root
    train: Callable[..., int]
    generate: Callable[..., int]


FEW_SLOTS = "--num_slots 4 --slot_dim 8 --decoder_dim 16 --decoder_layers 1 --batch_size 2 --decode_tokens 40"


@pytest.fixture
def slots(texton_root: Any) -> Scripts:
    """DINOSAUR with four small slots."""
    root = ["--cityscapes_root", str(texton_root.path), "--device", "cpu"]
    fixed = [*root, "--backbone", "texton", "--steps", "4", "--num_workers", "0", "--precision", "32"]

    def train(*more: str) -> int:
        return train_dinosaur.main([*fixed, *FEW_SLOTS.split(), *more])

    def generate(*more: str) -> int:
        semantics = ["--semantic_subdir", "pseudo_semantic_mapped_k300"]
        fixed = [*root, *semantics, "--num_workers", "1", "--min_area", "256"]
        return generate_dinosaur_instances.main([*fixed, *more])

    return Scripts(texton_root, train, generate)


@pytest.fixture
def refinement(texton_root: Any) -> Scripts:
    """Small refinement networks on a root with depth and pseudo-instances (the true ones)."""
    for stem in texton_root.stems:
        disparity = read_ids(texton_root.file("disparity", f"{stem}_disparity.png")).astype(np.float32)
        write_npy(texton_root.file("depth_spidepth", f"{stem}.npy"), 8000 / disparity)
        ids = read_ids(texton_root.file("gtFine", f"{stem}_gtFine_instanceIds.png")).astype(np.int64)
        path = texton_root.file("pseudo_instance_depth_guided_mapped_k300", f"{stem}.png")
        write_png(path, np.where(ids >= 26000, ids - 25999, 0).astype(np.uint16))
    for name in ("pseudo_instance_depth_guided_mapped_k300", "depth_spidepth"):
        write_provenance(texton_root.path / name, script="test", arguments={})
    shutil.rmtree(texton_root.path / "gtFine")
    root = ["--cityscapes_root", str(texton_root.path), "--device", "cpu"]
    fixed = "--backbone texton --crop 32 --channels 8 --batch_size 2 --precision 32 --steps 4 --num_workers 0"
    semantics = ["--semantic_subdir", "pseudo_semantic_mapped_k300"]

    def train(*more: str, joint: bool = False) -> int:
        module = train_joint_refine_net if joint else train_refine_net
        return module.main([*root, *semantics, *fixed.split(), *more])

    def generate(*more: str, joint: bool = False) -> int:
        name = "joint_refine_net" if joint else "refine_net"
        checkpoint = texton_root.path / name / f"{name}.pth"
        return generate_refined_semantics.main([*root, "--checkpoint", str(checkpoint), *more])

    return Scripts(texton_root, train, generate)
