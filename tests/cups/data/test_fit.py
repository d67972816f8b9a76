"""Training frames of any size: what the network is shown of them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.data.fit import Fit, choose_fit, padding_share, tell_fit, typical_size, used_share
from cups.io.png import write_png

CROP = (640, 1280)


@pytest.mark.parametrize("mode", ["auto", "scale"])
@pytest.mark.parametrize(
    ("frame", "scale", "crop"),
    [((1024, 2048), 0.625, CROP), ((1024, 2048), 1.0, CROP), ((192, 384), 1.0, (192, 384))],
)
def test_choose_fit__published_geometry_for_what_it_is_made_for(
    mode: str, frame: tuple[int, int], scale: float, crop: tuple[int, int]
) -> None:
    """CUPS on Cityscapes, and the demo: nothing changes, neither scale, crop nor place."""
    fit = choose_fit(frame, scale, crop, mode)  # type: ignore[arg-type]
    size = (round(frame[0] * scale), round(frame[1] * scale))
    assert fit == Fit(crop, size, scale)
    centre = ((size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2)
    assert fit.corner(fit.size(frame), torch.Generator().manual_seed(3)) == centre


@pytest.mark.parametrize(
    ("frame", "canvas", "working"),
    [
        ((480, 640), (480, 640), (480, 640)),
        ((3000, 4000), (640, 832), (640, 853)),
        ((4000, 3000), (640, 480), (640, 480)),
        ((375, 1242), (352, 1216), (375, 1242)),
        ((1500, 5000), (640, 1280), (640, 2133)),
        ((20, 40), (20, 32), (20, 40)),
    ],
    ids=["vga", "phone", "upright", "kitti", "panorama", "tiny"],
)
def test_choose_fit__own_frames_fill_the_canvas(
    frame: tuple[int, int], canvas: tuple[int, int], working: tuple[int, int]
) -> None:
    """Under the published scale, 480x640 was 85 % padding, and of 3000x4000 a sixth was used."""
    fit = choose_fit(frame, 0.625, CROP)
    assert (fit.canvas, fit.working_size, fit.scale) == (canvas, working, None)
    assert padding_share(fit.size(frame), fit.canvas) == 0.0
    assert used_share(fit.size(frame), fit.canvas) >= 0.6


def test_choose_fit__cityscapes_made_small_is_not_mostly_padding() -> None:
    assert choose_fit((1024, 2048), 0.25, CROP) == Fit((256, 512), (256, 512), 0.25)
    assert choose_fit((1024, 2048), 0.5, CROP) == Fit(CROP, (512, 1024), 0.5), "36 %, as published"


@pytest.mark.parametrize("raw", [(3000, 4000), (4000, 3000), (240, 320), (700, 2000), (641, 853), (33, 7)])
def test_size__every_frame_of_a_mixed_folder_covers_the_canvas(raw: tuple[int, int]) -> None:
    fit = choose_fit((3000, 4000), 0.625, CROP)
    height, width = fit.size(raw)
    assert height >= fit.canvas[0] and width >= fit.canvas[1]
    assert min(height - 640, width - 832) <= 1, "no larger than needed"


def test_corner__a_place_is_drawn_within_the_frame_else_the_centre() -> None:
    fit = choose_fit((1500, 5000), 0.625, CROP)
    corners = {fit.corner((640, 2133), torch.Generator().manual_seed(seed)) for seed in range(20)}
    assert len(corners) > 10
    assert all(top == 0 and 0 <= left <= 853 for top, left in corners)
    assert fit.corner((640, 2133)) == (0, 426)


def test_cut__image_and_labels_move_alike() -> None:
    fit = choose_fit((64, 200), 1.0, (64, 96))
    image = torch.arange(64 * 200.0).reshape(1, 64, 200)
    cut = fit.cut(image, (0, 70), 0.0)
    assert cut.shape == (1, 64, 96) and torch.equal(cut, image[:, :, 70:166])
    padded = Fit((40, 40), (32, 32), 1.0)
    labels = padded.cut(torch.ones(32, 32), padded.corner((32, 32)), 9)
    assert int((labels == 9).sum()) == 40 * 40 - 32 * 32 and labels[0, 0] == 9


def test_typical_size__median_of_the_headers(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for path, size in zip(files, [(10, 20), (30, 60), (12, 24)], strict=True):
        write_png(path, np.zeros((*size, 3), np.uint8))
    assert typical_size(files) == (12, 24)


def test_tell_fit__numbers_for_own_frames_silence_for_cityscapes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for mode in ("auto", "scale"):
            tell_fit(choose_fit((1024, 2048), 0.625, CROP, mode), (1024, 2048), 0.625, CROP)  # type: ignore[arg-type]
        assert not caplog.records
        tell_fit(choose_fit((480, 640), 0.625, CROP), (480, 640), 0.625, CROP)
        tell_fit(choose_fit((480, 640), 0.625, CROP, "scale"), (480, 640), 0.625, CROP)
    adapted, kept = caplog.messages
    assert "frames of 480x640" in adapted and "85% of the canvas as padding" in adapted
    assert "brought to 480x640 and cropped to 480x640: 0% of the canvas as padding" in adapted
    assert "85% of the canvas as padding" in kept and "DATA.FIT auto would adapt" in kept
