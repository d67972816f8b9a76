"""Depth from Cityscapes disparity, and from the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from pseudo_labels.generate_depth_spidepth import main
from pseudo_labels.networks.depth_network import (
    build_depth_network,
    load_depth_network,
    save_depth_network,
)
from pseudo_labels.settings.depth import DepthSettings


def run(root: Path, *more: str) -> int:
    return main(["--cityscapes_root", str(root), "--source", "disparity", "--num_workers", "0", *more])


def test_main__writes_metres_and_label_free_provenance(tiny_root: Any) -> None:
    assert run(tiny_root.path) == 0
    depth = np.load(tiny_root.file("depth_spidepth", f"{tiny_root.stems[0]}.npy"))
    assert depth.dtype == np.float16 and depth.shape == (64, 128)
    # The near car stands 6.5 m away; the wall behind it was rendered at 30 m.
    assert depth[40, 90] == pytest.approx(6.5, rel=0.01)
    assert depth[5, 5] == pytest.approx(30.0, rel=0.01)
    provenance = read_provenance(tiny_root.path / "depth_spidepth")
    assert provenance is not None and provenance["uses_ground_truth"] is False
    assert provenance["depth"] == {"source": "stereo"}


def test_main__resumes_and_repairs_a_cut_file(tiny_root: Any) -> None:
    run(tiny_root.path)
    first, second = (tiny_root.file("depth_spidepth", f"{stem}.npy") for stem in tiny_root.stems)
    expected, kept = np.load(second), first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:200])
    run(tiny_root.path)
    assert (np.load(second) == expected).all()
    assert first.stat().st_mtime_ns == kept


def damage_camera(root: Any) -> str:
    path = root.file("camera", f"{root.stems[0]}_camera.json")
    path.write_text(json.dumps({"intrinsic": {"fx": 100.0}}))
    return path.name


def remove_camera(root: Any) -> str:
    path = root.file("camera", f"{root.stems[1]}_camera.json")
    path.unlink()
    return path.name


def remove_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    path.unlink()
    return path.name


def truncate_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    path.write_bytes(path.read_bytes()[:-30])
    return path.name


def narrow_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    write_png(path, read_ids(path).astype(np.uint8))
    return path.name


def empty_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    write_png(path, np.zeros((64, 128), np.uint16))
    return path.name


@pytest.mark.parametrize(
    "damage",
    [
        damage_camera,
        remove_camera,
        remove_disparity,
        truncate_disparity,
        narrow_disparity,
        empty_disparity,
    ],
)
def test_main__bad_input_is_named(tiny_root: Any, damage: Any) -> None:
    name = damage(tiny_root)
    with pytest.raises(UserError, match=name):
        run(tiny_root.path)


def test_main__network_source_says_what_to_do(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="use `source` disparity"):
        main(["--cityscapes_root", str(tiny_root.path), "--source", "spidepth"])


def test_main__disparity_of_a_plain_folder_is_refused(tiny_root: Any, tmp_path: Path) -> None:
    folder = str(tiny_root.path / "leftImg8bit")
    with pytest.raises(UserError, match="`cityscapes_root`"):
        main(["--image_dir", folder, "--output_root", str(tmp_path), "--source", "disparity"])


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


def run_network(root: Path, folder: Path, *more: str) -> int:
    return main(["--cityscapes_root", str(root), "--checkpoint_dir", str(folder), "--device", "cpu", *more])


def test_network__writes_depth_at_its_own_size(tiny_root: Any, checkpoints: Path) -> None:
    assert run_network(tiny_root.path, checkpoints, "--num_workers", "0") == 0
    for stem in tiny_root.stems:
        depth = np.load(tiny_root.file("depth_spidepth", f"{stem}.npy"))
        # 32x48 for the upper 48 of 64x128 pixels: 43x85 for all.
        assert depth.dtype == np.float16 and depth.shape == (43, 85)
        assert depth.min() >= 0.001 and depth.max() <= 40
        assert (depth[33:] == depth[33]).all(), "the bonnet's rows repeat the last one that was seen"
        assert depth[:32].astype(np.float32).std() > 0
    provenance = read_provenance(tiny_root.path / "depth_spidepth")
    # The folder was not written by a training of ours: nobody knows what its weights saw.
    assert provenance is not None and provenance["uses_ground_truth"] is None
    assert provenance["depth"] == {"source": "network"}


def test_network__batches_do_not_change_the_files(tiny_root: Any, checkpoints: Path, tmp_path: Path) -> None:
    for size in ("1", "2"):
        run_network(tiny_root.path, checkpoints, "--batch_size", size, "--output_root", str(tmp_path / size))
    for one in sorted((tmp_path / "1").rglob("*.npy")):
        other = tmp_path / "2" / one.relative_to(tmp_path / "1")
        assert (np.load(one) == np.load(other)).all()


def test_network__retrained_weights_are_noticed(tiny_root: Any, checkpoints: Path, tmp_path: Path) -> None:
    """Maps of the old network stayed, and those of new frames would have come from the new one."""
    folder = tmp_path / "spidepth"
    shutil.copytree(checkpoints, folder)
    run_network(tiny_root.path, folder)
    save_depth_network(folder, load_depth_network(folder)[0], None, SMALL)
    run_network(tiny_root.path, folder)  # the same network, written again by a training that was finished
    torch.manual_seed(1)
    save_depth_network(folder, build_depth_network(SMALL), None, SMALL)
    stem = tiny_root.stems[0]
    old = np.load(tiny_root.file("depth_spidepth", f"{stem}.npy"))
    with pytest.raises(UserError, match=r"other weights \(depth\.pth, encoder\.pth.*`overwrite`"):
        run_network(tiny_root.path, folder)
    run_network(tiny_root.path, folder, "--overwrite")
    assert not np.array_equal(old, np.load(tiny_root.file("depth_spidepth", f"{stem}.npy")))


def test_network__published_files_need_no_settings(tiny_root: Any, checkpoints: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    for name in ("encoder.pth", "depth.pth"):
        (published / name).write_bytes((checkpoints / name).read_bytes())
    # Shapes do not tell the range of depth: it is the published model's, 80, not this network's 40.
    run_network(tiny_root.path, checkpoints, "--output_root", str(tmp_path / "a"))
    run_network(tiny_root.path, published, "--output_root", str(tmp_path / "b"))
    for one in sorted((tmp_path / "a").rglob("*.npy")):
        other = np.load(tmp_path / "b" / one.relative_to(tmp_path / "a")).astype(np.float32)
        np.testing.assert_allclose(np.load(one).astype(np.float32) * 2, other, rtol=5e-3)


@pytest.mark.parametrize("name", ["encoder.pth", "depth.pth"])
def test_network__missing_or_foreign_weights(
    tiny_root: Any, checkpoints: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in checkpoints.iterdir():
        if file.name != name:
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=rf"{name}: no such file"):
        run_network(tiny_root.path, folder)
    torch.save({"other": torch.zeros(1)}, folder / name)
    with pytest.raises(UserError, match=rf"{name}: weights of another network"):
        run_network(tiny_root.path, folder)
    (folder / name).write_bytes(b"broken")
    with pytest.raises(UserError, match=rf"{name}: not a (readable )?checkpoint"):
        run_network(tiny_root.path, folder)
    assert not (tiny_root.path / "depth_spidepth").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--crop_bottom", "1"), "`crop_bottom` 1.0: must be"),
        (("--height", "16"), "fewer than `query_nums` 8"),
        (("--height", "1024", "--width", "1024"), "and there are 500 positions"),
        (("--max_depth", "-1"), "`max_depth` -1.0: must be above 0"),
        (("--batch_size", "0"), "`batch_size` 0"),
    ],
)
def test_network__impossible_settings(
    tiny_root: Any, checkpoints: Path, flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_network(tiny_root.path, checkpoints, *flags)
