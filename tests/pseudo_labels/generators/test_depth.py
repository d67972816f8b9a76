"""Depth by the network: what it is fed, mirrored views, rows that were cut off, whose weights they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cups.io.png import write_png
from cups.io.weights import weight_files
from cups.ops.depth_edges import resize_depth
from pseudo_labels.generators.depth import DepthInference, map_size, network_weights
from pseudo_labels.inputs.labels import check_aspect
from pseudo_labels.networks.depth_network import (
    build_depth_network,
    load_depth_network,
    save_depth_network,
)
from pseudo_labels.settings.depth import DepthSettings
from pseudo_labels.steps.frames import Folder, Frame

SMALL = DepthSettings(
    backbone="convnextv2_atto",
    patch_size=8,
    query_nums=8,
    dec_channels=(16, 16, 8, 8),
    max_depth=40.0,
    height=64,
    width=96,
    crop_bottom=0.25,
)


@pytest.fixture(scope="module")
def checkpoints(make_folder: Callable[[str], Path]) -> Path:
    folder = make_folder("spidepth")
    torch.manual_seed(0)
    save_depth_network(folder, build_depth_network(SMALL), None, SMALL)
    return folder


class _Columns(nn.Module):
    """Depth that depends on the place alone: 1 at the left, 2 at the right, whatever the picture shows."""

    def forward(self, images: Tensor) -> Tensor:
        width = images.shape[-1] // 2
        row = torch.linspace(1, 2, width).expand(len(images), 1, images.shape[-2] // 2, width)
        return row


def test_post_process__averages_with_the_mirror(tmp_path: Path) -> None:
    output = Folder(tmp_path, "depth", ".npy")
    inference = DepthInference(_Columns(), SMALL, output, torch.device("cpu"), flip=True)
    (depth,) = inference.compute(torch.zeros(1, 3, 64, 96), [(64, 128)])
    np.testing.assert_allclose(depth, 1.5)


def test_post_process__mirrored_image_gives_mirrored_depth(checkpoints: Path, tmp_path: Path) -> None:
    network, settings = load_depth_network(checkpoints)
    output = Folder(tmp_path, "depth", ".npy")
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for flip in (True, False):
        inference = DepthInference(network, settings, output, torch.device("cpu"), flip=flip)
        (one,), (other,) = (inference.compute(x, [(64, 128)]) for x in (images, images.flip(3)))
        assert np.allclose(one, other[:, ::-1], rtol=2e-3) == flip


class _Rows(nn.Module):
    """Depth of a flat street: falls from 20 at the top of what it sees to 1 at the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.linspace(20, 1, images.shape[-2] // 2)[:, None].expand(len(images), 1, -1, 48)


@pytest.mark.parametrize(("crop", "seen"), [(0.0, 64), (0.25, 48), (0.5, 32)])
def test_crop__depth_stays_in_order_and_covers_the_image(tmp_path: Path, crop: float, seen: int) -> None:
    settings = replace(SMALL, crop_bottom=crop)
    inference = DepthInference(_Rows(), settings, Folder(tmp_path, "d", ".npy"), torch.device("cpu"))
    (depth,) = inference.compute(torch.zeros(1, 3, 64, 96), [(64, 128)])
    rows, columns = depth.shape
    column = depth[:, 5].astype(np.float32)
    # What the network computes, 32x48, is at least as fine in the map.
    assert (rows, columns) == (round(32 * 64 / seen), round(32 * 128 / seen))
    assert (np.diff(column) <= 0).all()
    last = round(rows * seen / 64)
    assert column[0] == pytest.approx(20, abs=0.05) and (column[last:] == 1).all()
    assert column[last // 2] == pytest.approx(10.5, abs=0.8)


class _Ramps(nn.Module):
    """Depth whose value is the place in the image: the row (axis 0) or the column (axis 1).

    Args:
        seen: (H, W) of what the network sees, in pixels of the image.
    """

    def __init__(self, seen: tuple[int, int], axis: int) -> None:
        super().__init__()
        self.seen, self.axis = seen, axis

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[-2] // 2, images.shape[-1] // 2)
        length, count = self.seen[self.axis], size[self.axis]
        ramp = (torch.arange(count) + 0.5) * length / count
        return (ramp[:, None] if self.axis == 0 else ramp[None]).expand(len(images), 1, *size)


@pytest.mark.parametrize("crop", [0.0, 0.2, 0.25])
@pytest.mark.parametrize("image", [(64, 128), (60, 128), (200, 400), (1024, 2048), (375, 1242)])
def test_map__every_pixel_shows_its_place_in_the_image(
    tmp_path: Path, crop: float, image: tuple[int, int]
) -> None:
    """A ramp over the image comes back as a ramp over the image, whatever is cut off and stored."""
    settings = replace(SMALL, crop_bottom=crop)
    seen = (round(image[0] * (1 - crop)), image[1])
    for axis in (0, 1):
        network = _Ramps(seen, axis)
        inference = DepthInference(network, settings, Folder(tmp_path, "d", ".npy"), torch.device("cpu"))
        (depth,) = inference.compute(torch.zeros(1, 3, 64, 96), [image])
        check_aspect(Path("x"), depth.shape, image)
        whole = resize_depth(depth.astype(np.float32), image, sharp=False)
        found = np.moveaxis(whole, axis, 0).mean(axis=1)
        expected = np.arange(image[axis]) + 0.5
        # At the borders half a pixel of the network has no neighbour to interpolate with.
        margin = int(np.ceil(seen[axis] / (32, 48)[axis]))
        inner = slice(margin, seen[axis] - margin)
        np.testing.assert_allclose(found[inner], expected[inner], atol=max(0.02, image[axis] / 1500))
        assert axis == 1 or (np.diff(found[seen[0] + margin :]) == 0).all()


def test_map_size__cityscapes() -> None:
    """Half a feed of 320x1024 for the upper 768 rows: 256x512 for the image, a sixteenth of its pixels."""
    assert map_size((160, 512), (1024, 2048), seen=768) == (256, 512)
    assert map_size((96, 192), (192, 384), seen=192) == (96, 192)
    assert map_size((400, 900), (192, 384), seen=192) == (192, 384), "never more than the image"


def test_load__crops_what_the_settings_say(tmp_path: Path) -> None:
    # The lower quarter is white; nothing of it may reach the network.
    image = np.zeros((64, 128, 3), np.uint8)
    image[48:] = 255
    write_png(tmp_path / "a.png", image)
    frame = Frame("a", Path(), tmp_path / "a.png")
    seen = {}
    for crop in (0.0, 0.25):
        settings = replace(SMALL, crop_bottom=crop)
        inference = DepthInference(_Rows(), settings, Folder(tmp_path, "d", ".npy"), torch.device("cpu"))
        fed, size = inference.load(frame)
        assert fed.shape == (3, 64, 96) and size == (64, 128)
        seen[crop] = fed.max().item()
    assert seen == {0.0: 1.0, 0.25: 0.0}


def test_network_weights__unknown_folder_stays_unknown(tmp_path: Path) -> None:
    (known,) = network_weights(weight_files("spidepth_kitti")[0].path.parent)
    assert known["name"] == "spidepth_kitti" and "ImageNet" in known["supervised_by"]
    assert network_weights(tmp_path) == [{"name": str(tmp_path), "uses_ground_truth": None}]
