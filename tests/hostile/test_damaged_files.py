"""Every reader on damaged files and on files that lie: one line that names the file, or what was written.

Two things are counted: tracebacks (anything but a `UserError`), and silent passes (content that changed and
was taken), where the format holds a digest.
"""

from __future__ import annotations

import os
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.io import files
from cups.io.checkpoint import load_checkpoint, load_tensors, read_file, write_file
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES
from cups.io.files import read_csv, read_json, read_npy, read_npz, write_json, write_npy
from cups.io.fingerprint import digest_of
from cups.io.pixels import exif_number, read_image, read_stored
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.io.thing_stuff import read_split
from cups.io.video import frame_paths, read_frame
from cups.io.video_writer import write_video
from cups.labels.coco_sets import read_coco_set, read_segments
from cups.labels.label_folders import read_label_ids
from pseudo_labels.inputs.cameras import read_camera
from pseudo_labels.inputs.centroids import read_centroids
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.inputs.cluster_names import KIND, read_names
from pseudo_labels.inputs.disparity import read_disparity
from pseudo_labels.inputs.instances import read_masks
from pseudo_labels.inputs.labels import read_depth
from pseudo_labels.networks.cause_heads import STANDARDIZER_DIGEST, read_settings
from pseudo_labels.networks.weight_files import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(0)
CODES = RANDOM.standard_normal((6, 8, 9)).astype(np.float16)
IDS = RANDOM.integers(0, 300, (12, 17)).astype(np.uint16)
PHOTO = RANDOM.integers(0, 255, (12, 17, 3)).astype(np.uint8)
HEADS = {"codebook": torch.from_numpy(CODES.astype(np.float32)), "bias": torch.arange(5.0)}
TRUNK = {"model": {"stem.conv1.weight": CODES.astype(np.float32)}, "__author__": "x"}
STATISTICS = {ALL_PIXELS: torch.rand(4), INSIDE_INSTANCES: torch.rand(4)}
CAMERA = {
    "intrinsic": {"fx": 2262.52, "fy": 2265.3, "u0": 1096.98, "v0": 513.137},
    "extrinsic": {"baseline": 0.209},
}
NAMES = {"kind": KIND, "num_clusters": 2, "names": [1, 2]}
SEGMENT = {"id": 1, "category_id": 7, "iscrowd": 0}
COCO = {
    "categories": [{"id": 7, "name": "car", "isthing": 1}],
    "annotations": [{"file_name": "a.png", "segments_info": [SEGMENT]}],
}


def _coco(path: Path) -> Any:
    (path.parent / "a.png").touch()
    return read_coco_set(path).annotations


def _save_legacy(path: Path) -> None:
    torch.save(HEADS, path, _use_new_zipfile_serialization=False)


def _video(path: Path) -> list[np.ndarray]:
    return [read_frame(frame) for frame in frame_paths(path)]


def _pillow(array: np.ndarray, mode: str | None = None) -> Callable[[Path], object]:
    image = Image.fromarray(array)
    return (image if mode is None else image.convert(mode)).save


def _json(content: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: write_json(path, content)


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written and read, and whether it holds a digest."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    digest: bool
    trials: int = 24

    def __str__(self) -> str:
        return self.name


KINDS = [
    Kind("codes.npy", lambda path: write_npy(path, CODES), partial(read_npy, ndim=3), True),
    Kind("depth.npy", lambda path: write_npy(path, abs(CODES[0]) + 1), read_depth, True),
    Kind("earlier.npy", lambda path: np.save(path, CODES), read_npy, False),
    Kind(
        "centroids.npz",
        lambda path: np.savez(path, centroids=CODES[0].astype(np.float32), seed=3, source="x"),
        lambda path: (read_centroids(path, 8), read_npz(path, ["seed"], ["source"])),
        True,
    ),
    Kind("masks.npz", lambda path: np.savez_compressed(path, masks=CODES > 0), read_masks, True),
    Kind("heads.pth", lambda path: write_file(path, HEADS), load_tensors, True),
    Kind(
        "model.ckpt",
        lambda path: write_file(path, {"state_dict": HEADS, "hyper_parameters": {"lr": 0.1}}),
        lambda path: vars(load_checkpoint(path)) | {"path": None},
        True,
    ),
    Kind("network.pth", lambda path: save_weights(path, HEADS, {"dim": 9}), load_weights, True),
    Kind(
        "statistics.pt",
        lambda path: write_file(path, STATISTICS),
        lambda path: load_statistics(path.parent),
        True,
    ),
    Kind("legacy.pth", _save_legacy, load_tensors, False),
    Kind("trunk.pkl", lambda path: path.write_bytes(pickle.dumps(TRUNK, protocol=2)), read_file, False),
    Kind("heads.safetensors", lambda path: save_file(HEADS, path), read_file, False),
    Kind("ids.png", lambda path: write_png(path, IDS), read_ids, True),
    Kind("labels.png", lambda path: write_png(path, IDS.astype(np.uint8)), read_label_ids, True),
    Kind("disparity.png", lambda path: write_png(path, IDS + 1), read_disparity, True),
    Kind("segments.png", lambda path: write_png(path, PHOTO), read_segments, True),
    Kind("photo.png", lambda path: write_png(path, PHOTO), read_image, True),
    Kind("palette.png", _pillow(IDS.astype(np.uint8), "P"), read_ids, True),
    Kind("stored.png", _pillow(PHOTO), read_stored, True),
    Kind("photo.jpg", _pillow(PHOTO), lambda path: (read_image(path), exif_number(path, 7)), False),
    Kind("photo.webp", _pillow(PHOTO), read_image, False),
    Kind("photo.bmp", _pillow(PHOTO), read_image, False),
    Kind("photo.tif", _pillow(PHOTO), read_image, False),
    Kind("deep.tif", _pillow(IDS), read_image, False),
    Kind("clip.mp4", lambda path: write_video(path, [PHOTO] * 6, 10), _video, False, 10),
    Kind("settings.json", _json({"class_order": list(range(27))}), class_order, False),
    Kind("camera.json", _json(CAMERA), lambda path: vars(read_camera(path)), False),
    Kind("coco.json", _json(COCO), _coco, False),
    Kind("split.json", _json({"things": [1], "stuffs": [0]}), lambda path: vars(read_split(path)), False),
    Kind(
        "names.json",
        _json({"kind": KIND, "num_clusters": 2, "names": [1, 2]}),
        lambda path: vars(read_names(path)),
        False,
    ),
    Kind("provenance.json", _json({"script": "x"}), lambda path: read_provenance(path.parent), False),
    Kind(
        "table.csv",
        lambda path: files.write_csv(path, ("a", "b"), [(1, "x")]),
        partial(read_csv, fix=""),
        False,
    ),
]


def _flat(content: Any) -> Any:
    """Return content as what can be compared bit by bit."""
    if isinstance(content, Tensor):
        content = content.numpy()
    if isinstance(content, np.ndarray):
        return content.shape, content.dtype.str, content.tobytes()
    if isinstance(content, dict):
        return {key: _flat(value) for key, value in content.items()}
    return [_flat(item) for item in content] if isinstance(content, (list, tuple)) else repr(content)


def _damages(good: bytes, seed: int, trials: int) -> Iterator[tuple[str, bytes]]:
    """Yield flipped bits (half of the trials), files cut, and files of which a part was never written."""
    chance = random.Random(seed)
    for number in range(trials):
        data, place = bytearray(good), chance.randrange(len(good))
        if number % 4 < 2:
            data[place] ^= 1 << chance.randrange(8)
            yield f"bit flip in byte {place}", bytes(data)
        elif number % 4 == 2:
            yield f"cut after {place} bytes", bytes(data[:place])
        else:
            end = min(len(good), place + chance.randrange(1, 600))
            data[place:end] = bytes(end - place)
            yield f"zeros in bytes {place}-{end}", bytes(data)
    yield "empty", b""
    yield "zeros alone", bytes(len(good))
    yield "something else", b"<!DOCTYPE html>\n<title>404 Not Found</title>\n" * 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_readers__no_traceback_and_no_silent_pass(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    kind.write(path)
    good, before = path.read_bytes(), _flat(kind.read(path))
    tracebacks, silent = [], []
    for damage, data in _damages(good, zlib.crc32(kind.name.encode()), kind.trials):
        path.unlink()
        path.write_bytes(data)
        try:
            after = _flat(kind.read(path))
        except UserError as error:
            assert str(tmp_path) in str(error) and "\n" not in str(error), (damage, str(error))
        except Exception as error:
            tracebacks.append(f"{damage}: {type(error).__name__} {error}")
        else:
            silent += [damage] if kind.digest and after != before else []
    assert (tracebacks, silent) == ([], [])


@pytest.mark.parametrize("name", ["centroids.npz", "heads.pth"])
def test_zip_archives__no_damage_of_their_lists_passes(name: str, tmp_path: Path) -> None:
    """A length of one bit more made a record swallow all behind it; what may be missing was missing."""
    kind = next(kind for kind in KINDS if kind.name == name)
    path = tmp_path / name
    kind.write(path)
    good, before = path.read_bytes(), _flat(kind.read(path))
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    silent = []
    for place in range(start, len(good)):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        path.unlink()
        path.write_bytes(data)
        with suppress(UserError):
            silent += [place] if _flat(kind.read(path)) != before else []
    assert not silent


OPTIONAL = {"settings.json", "provenance.json"}
"""What may be missing."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name not in OPTIONAL], ids=str)
def test_readers__what_is_no_file(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "x" / kind.name
    path.parent.mkdir()
    for make in (lambda: None, lambda: path.symlink_to("gone"), path.mkdir, lambda: os.mkfifo(path)):
        make()
        with pytest.raises(UserError) as error:
            kind.read(path)
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
        if path.is_dir():
            path.rmdir()
        elif path.is_symlink() or path.exists():
            path.unlink()


def test_readers__no_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As told by the system: whoever runs the tests may have all rights."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    readers = (read_image, read_npy, read_file, partial(read_json, fix=""), partial(read_npz, required=[]))
    (tmp_path / "a").write_bytes(b"{}")
    for read in readers:
        with pytest.raises(UserError, match="a: may not be read; change its rights, or copy it"):
            read(tmp_path / "a")


def test_read_settings__numbers_of_heads_have_a_digest(tmp_path: Path) -> None:
    numbers = {"mean": [0.25, -1.5], "std": [1.0, 2.0]}
    stored = {**numbers, "frames": 3, STANDARDIZER_DIGEST: digest_of(list(numbers.values()))}
    path = tmp_path / "settings.json"
    write_json(path, stored)
    assert read_settings(tmp_path) == stored
    path.write_text(path.read_text().replace("-1.5", "-9.5"))
    with pytest.raises(UserError, match=r"settings\.json: its mean or std has changed since it was written"):
        read_settings(tmp_path)
    write_json(path, {**numbers, "mean": [9.0, 9.0]})
    assert read_settings(tmp_path)["mean"] == [9.0, 9.0], "heads of earlier versions have none"


def test_torch_files__without_digests_still_open(tmp_path: Path) -> None:
    """Torch can leave them out; it then writes zeros."""
    set_digests = getattr(torch.serialization, "set_crc32_options", None)
    if set_digests is None:
        pytest.skip("this torch always writes digests")
    set_digests(False)
    try:
        torch.save(HEADS, tmp_path / "heads.pth")
    finally:
        set_digests(True)
    assert _flat(load_tensors(tmp_path / "heads.pth")) == _flat(HEADS)


def test_torch_files__a_record_marked_as_a_folder(tmp_path: Path) -> None:
    """Torch read nothing of it: the tensor was whatever the memory had held."""
    path = tmp_path / "heads.pth"
    write_file(path, HEADS)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"archive/data/1") - 46 + 38] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"heads\.pth: .*data/1 is marked as a folder"):
        load_tensors(path)


def test_torch_files__configs_and_optimisers_pass(tmp_path: Path) -> None:
    """The list of storages is read without looking up a name."""
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": network.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "shared": [HEADS["bias"], HEADS["bias"][1:]],
        "expanded": torch.arange(7).expand((1, -1)),
        "sizes": torch.Size((3,)),
        "kind": torch.float16,
        "empty": torch.zeros(0, 4),
    }
    write_file(tmp_path / "a.ckpt", content)
    assert read_file(tmp_path / "a.ckpt").keys() == content.keys()
    assert read_file(tmp_path / "a.ckpt", mapped=True).keys() == content.keys()
