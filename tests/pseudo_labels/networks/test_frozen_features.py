"""Features of a frozen backbone: as they are computed, and the same whether stored or streamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cups.backbones import untrained_backbone
from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import write_png
from pseudo_labels.networks.frozen_features import (
    FeatureReader,
    FrozenBackbone,
    StoredFeatures,
    StreamedFeatures,
    Window,
    feature_source,
)
from pseudo_labels.settings.feature_choice import Backbone
from pseudo_labels.steps.frames import Folder, Frame
from tests.pseudo_labels.conftest import Root


class Columns(nn.Module):
    """Features that say which column of the network's input a patch is."""

    patch_size = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        columns = torch.arange(images.shape[3] // 2, dtype=torch.float32)
        return columns.expand(len(images), 1, images.shape[2] // 2, -1)


def test_maps__flip_average_mirrors_back() -> None:
    backbone = FrozenBackbone(Columns(), flip=True)
    (features,) = backbone.maps(torch.zeros(1, 2, 8, 3, dtype=torch.uint8))
    assert features[0, :, 0].tolist() == [1.5, 1.5, 1.5, 1.5]  # (0 1 2 3 + 3 2 1 0) / 2


def test_maps__beyond_half_precision() -> None:
    class Huge(Columns):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e5 * super().forward(images)

    backbone = FrozenBackbone(Huge())
    with pytest.raises(UserError, match="`precision`"):
        backbone.maps(torch.zeros(1, 2, 8, 3, dtype=torch.uint8))


def tiny_images(folder: Path) -> list[Frame]:
    """Write two noisy images; return their frames."""
    frames = [Frame(str(number), Path(), folder / f"{number}.png") for number in range(2)]
    for number, frame in enumerate(frames):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        write_png(frame.image, pixels)
    return frames


@pytest.mark.parametrize("network", ["texton", "dinov2_vits14"])
def test_streamed__equal_stored_ones(tmp_path: Path, network: str) -> None:
    """Whole maps and mirrored crops; both are rounded to float16."""
    torch.manual_seed(0)
    frames = tiny_images(tmp_path)
    backbone = FrozenBackbone(untrained_backbone(network).eval(), 42 if network != "texton" else 0)
    stored, streamed = StoredFeatures(Folder(tmp_path, "features", ".npy")), StreamedFeatures(backbone, [])
    for frame in frames:
        write_npy(stored.folder.path(frame), backbone.maps(streamed.sample(frame)[None])[0].numpy())
    first = stored.sample(frames[0])
    assert stored.grid(first) == streamed.grid(streamed.sample(frames[0])) == first.shape[:2]
    windows = [Window(1, 2, 2, 3, True), Window(0, 3, 2, 3, False)]
    results = []
    for source in (stored, streamed):
        pairs = zip(frames, windows, strict=True)
        parts = torch.stack([source.cut(source.sample(frame), window) for frame, window in pairs])
        results.append(source.crops(parts, torch.tensor(windows)))
        whole = FeatureReader(source, torch.device("cpu"))(frames[1])
        torch.testing.assert_close(torch.from_numpy(whole), stored.sample(frames[1]), rtol=2e-3, atol=2e-3)
    assert results[0].shape == (2, 2, 3, first.shape[2])
    # A batch of images is not computed in the same order as one image.
    torch.testing.assert_close(*results, rtol=2e-3, atol=2e-3)
    expected = stored.sample(frames[0])[1:3, 2:5].flip(1)
    assert torch.equal(results[0][0], expected)


def test_maps__precision_is_its_own_inside_a_training() -> None:
    """Lightning trains in bf16: features of an fp32 backbone would have been rounded to it."""
    backbone = FrozenBackbone(nn.Conv2d(3, 4, 2, stride=2))
    backbone.network.patch_size = 2  # type: ignore[assignment]
    images = torch.randint(256, (1, 4, 8, 3), dtype=torch.uint8)
    alone = backbone.maps(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(backbone.maps(images), alone)
    assert not alone.requires_grad


def test_feature_source__folder_first_unless_weights_are_named(texton_root: Root, tmp_path: Path) -> None:
    frames = [Frame(stem, Path("train/aachen"), tmp_path) for stem in texton_root.stems]
    root, texton = texton_root.path, Backbone("texton")
    assert isinstance(feature_source(root, frames, texton, "cpu"), StoredFeatures)
    assert isinstance(feature_source(tmp_path, frames, texton, "cpu"), StreamedFeatures)
    with pytest.raises(UserError, match="features_none: no such folder"):
        feature_source(tmp_path, frames, texton, "cpu", "features_none")
    with pytest.raises(UserError, match=r"features_dinov2_vits14: no such folder, and .*none\.pth"):
        feature_source(root, frames, Backbone("dinov2_vits14", Path("none.pth")), "cpu")
    texton_root.file("features_texton", f"{texton_root.stems[1]}.npy").unlink()
    with pytest.raises(UserError, match=f"{texton_root.stems[1]}.npy: no such file; run extract"):
        feature_source(root, frames, texton, "cpu")
