"""Extraction of backbone features: shapes, batches, the flip average, resume, bad input."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones import build_backbone, normalize
from cups.errors import UserError
from cups.io.png import read_image, write_png
from cups.io.provenance import read_provenance
from cups.io.weights import WeightFile
from pseudo_labels import extract_dinov2_features, extract_dinov3_features
from pseudo_labels.generators.features import principal_picture
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.steps.frames import FrameSource
from refs.cause.models import dinov2_vit
from tests.pseudo_labels.conftest import Root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of two sizes."""
    rng = np.random.default_rng(0)
    for index, size in enumerate(((32, 64), (32, 64), (48, 40))):
        write_png(tmp_path / "in" / f"{index}.png", rng.integers(0, 255, (*size, 3)).astype(np.uint8))
    return tmp_path


def extract(root: Path, *flags: object) -> None:
    where = ["--image_dir", root / "in", "--output_root", root, "--backbone", "texton"]
    extract_dinov2_features.main([str(flag) for flag in (*where, *flags)])


def all_features(root: Path) -> list[np.ndarray]:
    folder = feature_folder(root, "texton")
    return [read_features(folder, frame) for frame in FrameSource(image_dir=root / "in").frames()]


def test_extract__equals_the_backbone_whatever_the_batch(images: Path) -> None:
    backbone = build_backbone("texton")
    extract(images, "--batch_size", 8, "--show", 2)
    batched = all_features(images)
    extract(images, "--batch_size", 1, "--num_workers", 0, "--overwrite")
    for index, (features, single) in enumerate(zip(batched, all_features(images), strict=True)):
        image = read_image(images / "in" / f"{index}.png")
        expected = backbone(normalize(image))[0].permute(1, 2, 0)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-3)
        assert (features == single).all(), "on a CPU no image depends on the others of its batch"
    assert np.load(images / "features_texton" / "0.npy").dtype == np.float16
    assert (images / "features_texton" / "contact_sheet.png").is_file()
    assert (read_provenance(images / "features_texton") or {})["uses_ground_truth"] is False


def test_extract__resumes_and_the_batch_size_is_no_setting(images: Path) -> None:
    extract(images)
    path = images / "features_texton" / "1.npy"
    kept = (images / "features_texton" / "0.npy").stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:-7])
    extract(images, "--batch_size", 2)
    assert np.load(path).shape == (8, 16, 39)
    assert (images / "features_texton" / "0.npy").stat().st_mtime_ns == kept
    with pytest.raises(UserError, match="`height` 0"):
        extract(images, "--height", 64)


def test_extract__bad_images_are_named_and_skipped(images: Path) -> None:
    bad = images / "in" / "1.png"
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"1\.png: truncated") as caught:
        extract(images)
    # Threads that outlived the error (kept alive by its traceback) once hung the next step now and then.
    assert caught.value and not [t for t in threading.enumerate() if t.name.startswith("frames")]
    extract(images, "--skip_bad")
    assert not (images / "features_texton" / "1.npy").exists()
    assert (images / "features_texton" / "2.npy").exists()


def test_extract__dinov2_on_whole_patches(tiny_root: Root, tmp_path: Path) -> None:
    """A 64 x 128 image at height 50: 4 x 7 patches of 14 pixels (56 x 98)."""
    weights = tmp_path / "vits14.pth"
    torch.manual_seed(0)
    torch.save(dinov2_vit("vits14").state_dict(), weights)
    flags = ["--cityscapes_root", tiny_root.path, "--output_root", tmp_path, "--height", 50, "--flip"]
    model = ["--backbone", "dinov2_vits14", "--backbone_checkpoint", weights]
    extract_dinov2_features.main([str(flag) for flag in (*flags, *model)])
    path = tmp_path / "features_dinov2_vits14" / "train" / "aachen" / f"{tiny_root.stems[0]}.npy"
    features = np.load(path)
    assert features.shape == (4, 7, 384) and np.isfinite(features).all()
    provenance = read_provenance(tmp_path / "features_dinov2_vits14") or {}
    assert provenance["weights"][0]["name"] == "dinov2_vits14"


def test_main__missing_weights(tiny_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cups.backbones.registry.weight_files", lambda name: [WeightFile(Path("none.pth"))])
    flags = ["--cityscapes_root", str(tiny_root.path)]
    with pytest.raises(UserError, match=r"none\.pth: no such file.*download_checkpoints\.sh --only dinov2"):
        extract_dinov2_features.main(flags)
    with pytest.raises(UserError, match=r"none\.pth: no such file.*accept the DINOv3 licence"):
        extract_dinov3_features.main(flags)
    with pytest.raises(UserError, match="`batch_size` 0: must be at least 1"):
        extract_dinov2_features.main([*flags, "--batch_size", "0"])


def test_principal_picture__separates_two_halves() -> None:
    features = np.zeros((4, 6, 5), dtype=np.float32)
    features[:, 3:, 2] = 1
    picture = principal_picture(features)
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8
    assert abs(int(picture[0, 0, 0]) - int(picture[0, 5, 0])) == 255


def test_main__has_no_seed(tiny_root: Root) -> None:
    """Nothing is drawn."""
    for main in (extract_dinov2_features.main, extract_dinov3_features.main):
        with pytest.raises(SystemExit):
            main(["--cityscapes_root", str(tiny_root.path), "--seed", "1"])
