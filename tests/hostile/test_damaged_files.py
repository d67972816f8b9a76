"""Every reader on damaged files and on files that lie: one line that names the file, or the content as it was.

Two things are counted: tracebacks (anything but a `UserError`), and silent passes (content that changed and was
taken), where the format holds a digest.
"""

from __future__ import annotations

import ast
import os
import pickle
import random
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
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

from cups.data.coco_sets import read_coco_set, read_segments
from cups.data.label_folders import read_label_ids
from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.io import files
from cups.io.checkpoint import load_checkpoint, load_tensors, read_file, write_file
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES
from cups.io.files import read_csv, read_json, read_npy, read_npz, read_text, write_json, write_npy
from cups.io.pixels import exif_number, image_size, read_image, read_stored
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.io.thing_stuff import read_split
from cups.io.video import frame_paths, read_frame
from cups.io.video_writer import write_video
from pseudo_labels.inputs.cameras import read_camera
from pseudo_labels.inputs.centroids import read_centroids
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.inputs.cluster_names import read_names
from pseudo_labels.inputs.disparity import read_disparity
from pseudo_labels.inputs.instances import read_masks
from pseudo_labels.inputs.labels import read_depth
from pseudo_labels.networks.training import load_weights, save_weights

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
    Kind("names.json", _json({"cluster_to_class": [1, 2]}), lambda path: vars(read_names(path)), False),
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


def _png_header(side: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _patched(suffix: str, *patches: tuple[int, bytes]) -> Callable[[Path], object]:
    """Return what writes a photograph, and then other bytes at places of its header."""

    def write(path: Path) -> None:
        Image.fromarray(np.zeros((12, 17, 3), np.uint8)).save(path, format=suffix)
        data = bytearray(path.read_bytes())
        for place, content in patches:
            data[place : place + len(content)] = content
        path.write_bytes(data)

    return write


def _jpeg(path: Path) -> None:
    _patched("JPEG")(path)
    data = path.read_bytes()
    place = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:place] + struct.pack(">HH", 60000, 60000) + data[place + 4 :])


def _tiff(path: Path) -> None:
    _patched("TIFF")(path)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack("<I", data[4:8])
    for number in range(struct.unpack("<H", data[start : start + 2])[0]):
        entry = start + 2 + 12 * number
        if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
            data[entry : entry + 12] = data[entry : entry + 2] + struct.pack("<HII", 4, 1, 60000)
    path.write_bytes(data)


def _npy_header(path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (310000, 310000)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(16))


def _sparse_npy(path: Path) -> None:
    """A file of 720 GiB that takes no room on the disk."""
    _npy_header(path)
    os.truncate(path, path.stat().st_size - 16 + 8 * 310000**2)


def _lying_npz(path: Path) -> None:
    np.savez(path, centroids=np.zeros(4))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)


def _torch_zip(change: Callable[[str, bytes], bytes], packed: bool = False) -> Callable[[Path], object]:
    """Return what writes a torch file of which records are others; their digests are true."""

    def write(path: Path) -> None:
        torch.save({"bias": torch.arange(1000.0)}, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
            for name, content in records.items():
                archive.writestr(name, change(name, content))

    return write


def _more_values(name: str, content: bytes) -> bytes:
    return content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x40") if name.endswith("data.pkl") else content


def _tall_json(path: Path) -> None:
    path.write_bytes(b'{"a":' * 100_000)


LIES = {
    "photo.png": (
        lambda path: path.write_bytes(_png_header(60000)),
        read_image,
        "60000x60000 is 3600 megapixels",
    ),
    "ids.png": (lambda path: path.write_bytes(_png_header(60000)), read_ids, "3600 megapixels"),
    "size.png": (lambda path: path.write_bytes(_png_header(60000)), image_size, "3600 megapixels"),
    "less.png": (
        lambda path: path.write_bytes(_png_header(14000)),
        read_image,
        "cannot be decoded|truncated",
    ),
    "photo.jpg": (_jpeg, read_image, "3600 megapixels"),
    "photo.tif": (_tiff, read_image, "3600 megapixels"),
    "photo.bmp": (_patched("BMP", (18, struct.pack("<ii", 60000, 60000))), read_image, "3600 megapixels"),
    "codes.npy": (_npy_header, read_npy, "144 bytes, but an array .* makes 768800000128"),
    "sparse.npy": (_sparse_npy, read_npy, "are more than the 4096 that are read; .*CUPS_MAX_FILE_MB"),
    "centroids.npz": (_lying_npz, partial(read_npz, required=["centroids"]), "are more than the 1024"),
    "more.pth": (_torch_zip(_more_values), load_tensors, r"data/0 has 4000 bytes, not \d+ x 4"),
    "packed.pth": (_torch_zip(lambda _, content: content, packed=True), load_tensors, "is packed"),
    "repeated.pth": (
        lambda path: torch.save({"bias": torch.zeros(1).expand(10**9)}, path),
        load_tensors,
        r"a tensor of shape \(1000000000,\), but 1 values",
    ),
    "tall.json": (_tall_json, partial(read_json, fix="x"), "not valid JSON"),
    "latin.json": (lambda path: path.write_bytes(b'"\xe9"'), partial(read_json, fix="x"), "not UTF-8 text"),
    "long.txt": (
        lambda path: (path.touch(), os.truncate(path, 2**36)),
        partial(read_text, fix="x"),
        "65536 MiB",
    ),
    "long.json": (
        lambda path: (path.touch(), os.truncate(path, 2**36)),
        partial(read_json, fix="x"),
        "65536 MiB",
    ),
    "page.png": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        read_image,
        "de",
    ),
}
"""Files that say they hold more than they do: how they are written and read, and what is said of them."""


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Half a gigabyte more than the process has by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", LIES)
@pytest.mark.usefixtures("little_memory")
def test_readers__lies_are_refused_before_memory_is_asked_for(name: str, tmp_path: Path) -> None:
    write, read, said = LIES[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=said) as error:
        read(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


def test_read_npz__bombs_are_refused_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, centroids=np.zeros(2**20))
    assert path.stat().st_size < 2**14
    assert len(read_npz(path, ["centroids"])["centroids"]) == 2**20
    monkeypatch.setattr(files, "UNPACKED_BYTES", 2**20)
    with pytest.raises(UserError, match=r"bomb\.npz: 8 MiB are more than the 1 that are read"):
        read_npz(path, ["centroids"])


def test_read_frame__videos_that_say_they_are_huge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, [PHOTO], 10)
    monkeypatch.setenv("CUPS_MAX_MEGAPIXELS", "0.0001")
    with pytest.raises(UserError, match=r"clip\.mp4: 12x18 is 0 megapixels, more than 0.0001"):
        frame_paths(path)


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


READING = {
    *("Image.open", "cv2.imread", "np.load", "np.fromfile", "torch.load", "json.load", "json.loads", "open"),
    *("read_text", "read_bytes", "csv.reader", "csv.DictReader", "load_file", "pickle.load", "pickle.loads"),
}
"""Calls that read a file, or parse one, by the end of their names."""
ROOMS_OF_READERS = ("cups/io/",)
ELSEWHERE = {
    # YAML has readers of its own, which tell of keys and lines.
    *(
        ("cups/config.py", "read_text"),
        ("cups/categories.py", "read_text"),
        ("cups/class_files.py", "read_text"),
    ),
    ("cups/class_files.py", "json.loads"),
    ("cups/training/processes.py", "read_text"),  # /proc/cpuinfo
}


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield from {name, name.rpartition(".")[2] if "." in name else name} & READING


def test_files__are_read_by_the_readers_alone() -> None:
    """Anything else would know neither limits nor digests."""
    found = set()
    for room in ("cups", "pseudo_labels"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(ROOMS_OF_READERS):
                found |= {(name, call) for call in _calls(ast.parse(path.read_text(encoding="utf-8")))}
    assert found - ELSEWHERE == set()


def test_calls__finds_what_it_looks_for() -> None:
    code = "np.load(x); Image.open(y); z.read_text(); open(w); webbrowser.open(1); stored.load(x)"
    assert set(_calls(ast.parse(code))) >= {"np.load", "Image.open", "read_text", "open"}
