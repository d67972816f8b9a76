"""A backbone from one's own images: trained for two steps, and read by both stages."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from cups.backbones import build_backbone, find_weights, untrained_backbone
from cups.builders.stage2 import starting_weights
from cups.config import build_config
from cups.errors import Stopped, UserError
from cups.io.files import file_sha256
from cups.io.png import write_png
from cups.io.provenance import read_provenance
from cups.io.trunk import load_trunk
from cups.model import panoptic_cascade_mask_r_cnn
from pseudo_labels import extract_dinov2_features as features
from pseudo_labels import generate_overclustered_semantics as overclusters
from pseudo_labels import train_backbone, train_cause
from pseudo_labels.networks.backbone_training import BackboneFit
from tests.pseudo_labels.textures import SIZES, scene

TINY = [
    *("--device", "cpu", "--precision", "32", "--architecture", "resnet18", "--height", "48", "--crop", "32"),
    *("--steps", "3", "--batch_size", "2", "--projection_dim", "16", "--local_dim", "8"),
    *("--num_workers", "0", "--log_every", "1"),
]


@pytest.fixture(scope="module")
def photos(make_folder: Callable[[str], Path]) -> Path:
    folder = make_folder("own") / "photos"
    for index in range(4):
        write_png(folder / f"{index}.png", scene(index)[0])
    return folder


@pytest.fixture(scope="module")
def own(photos: Path) -> Path:
    """Train on the photos; return the weights."""
    root = photos.parent / "out"
    assert train_backbone.main(["--image_dir", str(photos), "--output_root", str(root), *TINY]) == 0
    return root / "own_backbone" / "backbone.pth"


def test_main__writes_a_torchvision_network_without_labels(own: Path) -> None:
    content = torch.load(own, weights_only=True)
    network = resnet18()
    missing = network.load_state_dict(content["state_dict"], strict=False)
    assert set(missing.missing_keys) == {"fc.weight", "fc.bias"} and not missing.unexpected_keys
    assert content["settings"] == {"architecture": "resnet18", "height": 48, "crop": 32}
    assert (read_provenance(own.parent) or {})["uses_ground_truth"] is False
    assert (own.parent / "csv" / "version_0" / "metrics.csv").is_file()


def test_main__stopped_by_a_signal_ends_with_the_same_weights(
    own: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network, average and projectors: all of them are where they were."""
    command = ["--image_dir", str(photos), "--output_root", str(tmp_path), *TINY]
    follow = BackboneFit.follow

    def told(self: BackboneFit) -> None:
        if self.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        follow(self)

    with monkeypatch.context() as patch:
        patch.setattr(BackboneFit, "follow", told)
        with pytest.raises(Stopped, match=r"^stopped at step 2; the same command goes on$"):
            train_backbone.main(command)
    train_backbone.main(command)
    pair = [torch.load(path, weights_only=True) for path in (own, tmp_path / "own_backbone" / own.name)]
    assert all(torch.equal(pair[1]["state_dict"][key], value) for key, value in pair[0]["state_dict"].items())


def test_own__is_a_backbone_of_stage_1(own: Path, photos: Path) -> None:
    """Features, heads and clusters; the folders say whose weights they were, which no label taught."""
    given = ["--image_dir", str(photos), "--output_root", str(own.parents[1]), "--backbone", f"own:{own}"]
    given += ["--device", "cpu"]
    features.main([*given, "--num_workers", "0"])
    root = own.parents[1]
    stored = np.load(root / "features_own" / "0.npy")
    assert stored.shape == (6, 12, 384) and np.isfinite(stored).all()
    assert np.allclose((stored.astype(float) ** 2).sum(axis=-1), 2, atol=0.01)
    sizes = {**SIZES, "codebook_steps": 1, "head_steps": 1, "probe_steps": 1, "batch_size": 2}
    sizes |= {"window": 24, "stride": 24}
    train_cause.main([*given, *(str(part) for name, value in sizes.items() for part in (f"--{name}", value))])
    assert len(json.loads((root / "cause_own" / "settings.json").read_text())["mean"]) == 384
    overclusters.main([*given, "--k", "3", "--features", "backbone", "--num_workers", "0"])
    for folder in ("features_own", "cause_own", "pseudo_semantic_raw_k3"):
        provenance = read_provenance(root / folder) or {}
        assert provenance["uses_ground_truth"] is False
        if folder != "pseudo_semantic_raw_k3":  # made of the stored features, which tell
            assert provenance["weights"][0]["sha256"] == {"backbone.pth": file_sha256(own)}


def test_own__names_a_file_or_its_folder(own: Path, tmp_path: Path) -> None:
    assert find_weights(f"own:{own.parent}") == find_weights(f"own:{own}") == own
    backbone, other = build_backbone(f"own:{own}"), untrained_backbone(f"own:{own}")
    images = torch.rand(1, 3, 40, 64)
    assert backbone(images).shape == other(images).shape == (1, 384, 5, 8)
    assert not torch.equal(backbone(images), other(images))
    with pytest.raises(UserError, match=r"gone\.pth: no such file; train it with train_backbone\.py"):
        build_backbone("own:gone.pth")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "else.pth")
    with pytest.raises(UserError, match=r"else\.pth: not weights of train_backbone\.py"):
        build_backbone(f"own:{tmp_path / 'else.pth'}")
    with pytest.raises(UserError, match="leave `backbone_checkpoint` out"):
        build_backbone(f"own:{own}", tmp_path / "else.pth")


def test_own__starts_stage_2(own: Path) -> None:
    """A ResNet-18 with two overrides; another depth is refused in one line."""
    shallow = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    network = panoptic_cascade_mask_r_cnn(2, 4, model_overrides=shallow, backbone_checkpoint=own)
    stored = torch.load(own, weights_only=True)["state_dict"]
    loaded = network.state_dict()["backbone.bottom_up.res3.1.conv2.weight"]
    assert torch.equal(loaded, stored["layer2.1.conv2.weight"])
    with pytest.raises(UserError, match=r"backbone\.pth: does not fit the network's ResNet"):
        load_trunk(panoptic_cascade_mask_r_cnn(2, 4), own)
    (entry,) = starting_weights(build_config(None, ["MODEL.BACKBONE_CHECKPOINT", str(own)]))
    assert entry["uses_ground_truth"] is False and entry["sha256"] == {"backbone.pth": file_sha256(own)}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--crop", "40"), "`crop` 40: must be a multiple of 32"),
        (("--batch_size", "1"), "`batch_size` 1: must be at least 2"),
        (("--scale", "2", "1"), "`scale` 2 1"),
        (("--average", "1"), "`average` 1"),
        (("--shift", "0.7"), "`shift` 0.7"),
    ],
)
def test_main__bad_input(photos: Path, tmp_path: Path, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_backbone.main(["--image_dir", str(photos), "--output_root", str(tmp_path), *TINY, *extra])
