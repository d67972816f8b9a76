"""predict.py, val.py and cups_inference_val.py on images without labels: files, names, resumed runs."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cups_inference_val
import numpy as np
import pytest
import torch

import predict
import val
from cups.builders import prediction
from cups.builders.prediction import images_of
from cups.errors import UserError
from cups.evaluation import own_images
from cups.io.coco_panoptic import from_rgb
from cups.io.png import read_image, write_png
from cups.io.video import frame_rate, read_frame
from cups.io.video_writer import write_video
from cups.model import panoptic_cascade_mask_r_cnn

SMALL = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
SIZE = (48, 96)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(make_folder: Callable[[str], Path]) -> Path:
    """A network as the trainer writes it, that has learnt nothing."""
    torch.manual_seed(0)
    overrides = ["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.RPN.POST_NMS_TOPK_TEST", 16]
    model = panoptic_cascade_mask_r_cnn(2, 5, model_config=SMALL, model_overrides=overrides)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    stored = {"model": {"model_config": SMALL, "model_overrides": overrides}, "working_size": [48, 96]}
    path = make_folder("network") / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": stored}, path)
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures, and a network that is opened once."""
    monkeypatch.setattr(own_images, "OVERLAY_WIDTHS", (160, 1600))
    monkeypatch.setattr(prediction, "load", _load)


_load = functools.cache(prediction.load)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders with equal names, one name in two formats, another size."""
    folder = tmp_path / "photos"
    for index, name in enumerate(("a/1.png", "b/1.png", "x.png", "wide.png")):
        write_png(folder / name, picture(index, (60, 150) if name == "wide.png" else SIZE))
    shutil.copy(folder / "x.png", folder / "x.jpg")
    for path in folder.rglob("*.*"):
        os.utime(path, (1, 1))
    return folder


def run(checkpoint: Path, output: Path, *arguments: object) -> dict[str, Any]:
    flags = ("--checkpoint", checkpoint, "--output", output, "--confidence", 0.1, *arguments)
    assert predict.main([str(flag) for flag in flags]) == 0
    content: dict[str, Any] = json.loads((output / "panoptic.json").read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_predict__ids_and_names_are_unique_and_the_json_tells_the_pixels(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    content = run(checkpoint, tmp_path / "out", "--input", photos)
    images = content["images"]
    assert [image["id"] for image in images] == [1, 2, 3, 4, 5]
    assert sorted(image["file_name"] for image in images) == [
        "a/1.png",
        "b/1.png",
        "wide.png",
        "x.jpg",
        "x.png",
    ]
    kinds = {category["id"]: category for category in content["categories"]}
    assert [kind["name"] for kind in kinds.values()] == [f"stuff {i}" for i in range(4)] + [
        "thing 0",
        "thing 1",
    ]
    assert all(len(kind["color"]) == 3 for kind in kinds.values())
    for image, annotation in zip(images, content["annotations"], strict=True):
        ids = from_rgb(read_image(tmp_path / "out" / "panoptic" / annotation["file_name"]))
        assert annotation["image_id"] == image["id"] and ids.shape == (image["height"], image["width"])
        assert {segment["id"] for segment in annotation["segments_info"]} == set(np.unique(ids)) - {0}
        for segment in annotation["segments_info"]:
            left, top, width, height = segment["bbox"]
            assert (ids == segment["id"]).sum() == segment["area"] > 0 and segment["iscrowd"] == 0
            assert (ids[top : top + height, left : left + width] == segment["id"]).sum() == segment["area"]
            assert segment["category_id"] in kinds
    shown = {
        path.relative_to(tmp_path / "out/overlays").as_posix()
        for path in (tmp_path / "out").rglob("overlays/**/*.png")
    }
    assert len(shown) == 5 and {"a/1.png", "b/1.png"} <= shown


def test_predict__detectron2_reads_the_json(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json

    (photos / "x.png").unlink()
    content = run(checkpoint, tmp_path / "out", "--input", photos, "--no_overlays")
    shutil.copytree(photos, tmp_path / "jpg")
    for path in (tmp_path / "jpg").rglob("*.png"):  # it expects images in this format
        path.rename(path.with_suffix(".jpg"))
    ids = {kind["id"]: kind["id"] for kind in content["categories"]}
    meta = {"thing_dataset_id_to_contiguous_id": {4: 0, 5: 1}, "stuff_dataset_id_to_contiguous_id": ids}
    out = tmp_path / "out"
    loaded = load_coco_panoptic_json(
        str(out / "panoptic.json"), str(tmp_path / "jpg"), str(out / "panoptic"), meta
    )
    assert len(loaded) == 4 and all(Path(item["pan_seg_file_name"]).is_file() for item in loaded)
    assert not (out / "overlays").exists()


def test_predict__killed_at_any_moment_it_goes_on(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(checkpoint, tmp_path / "whole", "--input", photos)
    out = tmp_path / "out"
    written: list[Path] = []

    def killed(path: Path, array: np.ndarray) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        write_png(path, array)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(own_images, "write_png", killed)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, out, "--input", photos)
    done = sorted((out / "panoptic").rglob("*.png"))
    assert 0 < len(done) < 5 and not (out / "panoptic.json").exists()
    before = [path.stat().st_mtime_ns for path in done]
    run(checkpoint, out, "--input", photos)
    assert [path.stat().st_mtime_ns for path in done] == before
    assert contents(out) == contents(tmp_path / "whole")


def test_predict__other_settings_are_not_mixed_in(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", ("--max_images", 1, "--no_overlays")
    run(checkpoint, out, "--input", photos, *few)
    with pytest.raises(UserError, match=r"another working_size; remove it, or choose another `output`"):
        run(checkpoint, out, "--input", photos, *few, "--working_size", "64x128")
    run(checkpoint, out, "--input", photos, *few, "--working_size", "64x128", "--overwrite")
    png = next((out / "panoptic").rglob("*.png"))
    first = png.stat().st_mtime_ns
    image = photos / images_of([photos])[0][1].relative_to(photos)
    write_png(image, picture(9))  # a newer image of the same name
    run(checkpoint, out, "--input", photos, *few, "--working_size", "64x128")
    assert png.stat().st_mtime_ns > first


def test_predict__an_image_that_cannot_be_read(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"b/1\.png: "):
        run(checkpoint, tmp_path / "out", "--input", photos, "--no_overlays")
    content = run(checkpoint, tmp_path / "out", "--input", photos, "--no_overlays", "--skip_bad")
    assert len(content["images"]) == 4 and "b/1.png" not in {i["file_name"] for i in content["images"]}
    (tmp_path / "bad").mkdir()
    shutil.copy(photos / "b" / "1.png", tmp_path / "bad")
    with pytest.raises(UserError, match="none of 1 images can be read"):
        run(checkpoint, tmp_path / "none", "--input", tmp_path / "bad", "--skip_bad")


def test_predict__a_video_becomes_an_overlay_video(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out"
    write_video(clip, [picture(i) for i in range(3)], 12.5)
    os.utime(clip, (1, 1))
    content = run(checkpoint, out, "--input", clip, "--input", photos / "a")
    names = [image["file_name"] for image in content["images"]]
    assert names == ["clip/000000", "clip/000001", "clip/000002", "a/1.png"]
    video = out / "overlays" / "clip.mp4"
    assert frame_rate(video) == 12.5 and read_frame(video / "000002").shape[1] == 160
    made = video.stat().st_mtime_ns
    run(checkpoint, out, "--input", clip, "--input", photos / "a")
    assert video.stat().st_mtime_ns == made
    assert (out / "overlays" / "a" / "1.png").is_file() and len(list(out.rglob("overlays/**/*.png"))) == 1


def test_scripts__call_the_same_code(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out", "--input", photos)
    common = ["--checkpoint", str(checkpoint), "--image_dir", str(photos), "--output_dir"]
    confidence = ["MODEL.INFERENCE_CONFIDENCE_THRESHOLD", "0.1"]
    assert val.main([*common, str(tmp_path / "val"), *confidence]) == 0
    assert cups_inference_val.main([*common, str(tmp_path / "coco"), *confidence]) == 0
    first, second, third = (contents(tmp_path / name) for name in ("out", "val", "coco"))
    for files in (first, second, third):
        files.pop("settings.json")
    assert first == second
    assert third == {
        re.sub("^panoptic", "raw", n): c for n, c in first.items() if not n.startswith("overlays")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--confidence", "2"), r"`confidence` 2\.0: must lie in 0-1"),
        (("--max_images", "0"), "`max_images` 0: must be at least 1"),
        (("--device", "abacus"), "`device` abacus: must be auto, cpu, cuda"),
        (("--names", "none.yaml"), r"none\.yaml: no such file; check `names`"),
        (("--input", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_predict__one_line_says_what_is_wrong(
    checkpoint: Path, photos: Path, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(checkpoint, tmp_path / "out", "--input", photos, *arguments)
    assert not (tmp_path / "out").exists()


def test_predict__results_do_not_lie_among_the_images(checkpoint: Path, photos: Path) -> None:
    with pytest.raises(UserError, match="lies inside the images"):
        run(checkpoint, photos / "out", "--input", photos)


def test_images_of__several_inputs_share_no_name(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "a", tmp_path / "other" / "a")
    names = [
        name
        for name, _ in images_of([photos / "a", tmp_path / "other" / "a", photos / "x.png", photos / "a"])
    ]
    assert names == ["a/1", "a/1_2", "x"]


def test_configured_network__needs_a_checkpoint() -> None:
    from cups.config import build_config

    with pytest.raises(UserError, match="give a checkpoint with `checkpoint`"):
        prediction.configured_network(build_config())
