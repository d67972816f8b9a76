"""What a run on own images decides, and says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cups.errors import UserError
from studies.own_data import plan
from studies.own_data.plan import exif_focal, plan_of
from studies.own_data.settings import OwnDataSettings


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of a phone, held upright, whose lens is 27 mm on film."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 27
    for number in range(2):
        path = tmp_path / "photos" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path, exif=exif.tobytes())
    return tmp_path / "photos"


def test_exif_focal__in_widths_of_the_upright_photo(photos: Path, tmp_path: Path) -> None:
    assert exif_focal(photos / "0.jpg") == 27 / 24
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.png")
    assert exif_focal(tmp_path / "plain.png") is None


def test_plan_of__photos_without_weights_or_gpu(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "find_weights", lambda *_: (_ for _ in ()).throw(UserError("none")))
    monkeypatch.setattr(plan, "published_depth", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = plan_of(OwnDataSettings(input=photos, output=tmp_path / "out"))
    assert (found.backbone, found.depth, found.size_name, found.k) == ("texton", "none", "small", 120)
    assert found.size == (40, 30) and not found.video and len(found.notes) == 3
    told = plan_of(OwnDataSettings(input=photos, output=tmp_path / "out", depth="video"))
    assert told.focal == 27 / 24 and "EXIF" in told.notes[-1]


def test_plan_of__weights_that_are_here_are_taken(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "find_weights", lambda *_: Path("weights.pth"))
    monkeypatch.setattr(plan, "published_depth", lambda: tmp_path)
    found = plan_of(OwnDataSettings(input=photos, output=tmp_path / "out", size="full"))
    assert (found.backbone, found.depth, found.k, found.notes) == ("dinov2_vitb14", "published", 300, ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"output": "photos/out"}, "lies inside `input`"),
        ({"adapt": True}, "`adapt`: trains a network on"),
        ({"focal": 800.0}, "`focal` 800.0: must be at most 10"),
        ({"steps": 0}, "`steps`"),
        ({"checkpoint": Path("missing.ckpt")}, "no such file"),
    ],
)
def test_settings__what_cannot_be_is_refused(photos: Path, change: dict[str, object], told: str) -> None:
    output = photos.parent / str(change.pop("output", "out"))
    with pytest.raises(UserError, match=told):
        OwnDataSettings(input=photos, output=output, **change)  # type: ignore[arg-type]
