"""Finding images on disk: the one lister, and the names of frames.

Images lie below a folder, in a split of the Cityscapes layout, or in a video (`cups.io.video`).
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cups.errors import UserError
from cups.io.file_names import HEIC_SUFFIXES, IMAGE_MARK, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from cups.io.mask_files import mask_files
from cups.io.video import frame_paths, is_frame, is_video, stored_file

log = logging.getLogger(__name__)
LOOKED_AT = 200
"""Images of a list whose headers are read, to tell the range of their sizes."""
OWN_FOLDERS = (
    {"provenance.json"},
    {"settings.json", "raw"},
    {"settings.json", "panoptic"},
    {"config.yaml", "checkpoints"},
    {"run.json", "steps"},
)
"""What tells a folder that this project wrote: labels, predictions, runs."""
SYSTEM_FOLDERS = frozenset({"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini", "ehthumbs.db"})
HIDDEN, OWN, MASKS, HEIC, BROKEN, OTHER = (
    "hidden or of the system",
    "in folders that this project wrote",
    "masks beside images",
    "heic (pip install '.[heic]' reads them)",
    "broken links or videos",
    "other files",
)


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
        images: files, and frames of videos, in natural order.
        ignored: numbers of files left out, by kind.
    """

    images: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def natural_key(path: Path | str) -> list[tuple[list[str | int], str]]:
    """Return a key that sorts paths part by part, numbers by their value: frame2 before frame10.

    Equal numbers with other leading zeros are told apart by the text.
    """
    return [(_words_and_numbers(part), part) for part in Path(path).parts]


def _words_and_numbers(part: str) -> list[str | int]:
    """Return text and numbers in turn, text first: so any two such lists can be compared."""
    pieces = re.split("([0-9]+)", part)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)]


def scan_images(root: Path) -> Listing:
    """Return the images below a folder, in a video, or the one that `root` is; none if it is missing.

    Sub-folders and links are followed, each folder once. Left out and counted: hidden files, those of
    operating systems, folders that this project wrote, and masks that lie beside images of the same names.

    Raises:
        UserError: `root` is a video that cannot be read.
    """
    root = Path(root)
    if is_video(root):
        return Listing(frame_paths(root))
    if root.is_file():
        return Listing([root] if root.suffix.lower() in _suffixes() else [])
    listing, files = Listing(), []
    for folder, names in _folders(root, listing.ignored):
        files += [folder / name for name in names if _is_wanted(folder / name, listing.ignored)]
    masks = mask_files(root, [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES])
    if masks:
        listing.ignored[MASKS] += len(masks)
    for file in sorted((file for file in files if file not in masks), key=natural_key):
        listing.images += _frames_of(file, listing.ignored)
    return listing


def list_images(folder: Path) -> list[Path]:
    """Return every image below a folder or in a video, in natural order, see `scan_images`."""
    return scan_images(folder).images


def list_files(folder: Path) -> list[Path]:
    """Return every file below a folder that is not hidden, whatever it is; links are followed as above."""
    return [
        below / name
        for below, names in _folders(Path(folder), Counter())
        for name in names
        if not name.startswith(".") and name not in SYSTEM_FILES
    ]


def list_city_images(split: Path) -> list[Path]:
    """Return the images of a split, `{split}/{city}/{stem}_leftImg8bit.png` (or .jpg ...), in natural order.

    Where an image is there with several suffixes, the first of `IMAGE_SUFFIXES` counts.
    """
    found: dict[Path, Path] = {}
    for suffix in reversed(IMAGE_SUFFIXES):
        for path in split.glob(f"*/*{IMAGE_MARK}{suffix}"):
            if not path.name.startswith("."):
                found[path.with_suffix("")] = path
    return sorted(found.values(), key=natural_key)


def frame_stem(image: Path) -> str:
    """Return the name of a frame in the Cityscapes layout: its file name without `_leftImg8bit.png`."""
    if image.suffix in IMAGE_SUFFIXES and image.stem.endswith(IMAGE_MARK):
        return image.stem.removesuffix(IMAGE_MARK)
    return image.name


def frame_names(root: Path, images: Sequence[Path]) -> list[str]:
    """Return the name of each frame: its path relative to `root`, POSIX, without suffix.

    Where two would share a name (`a.png` and `a.jpg`, `a.mp4` and a folder `a`), both keep their suffix.

    Args:
        root: the folder, video or single image that was listed.
    """
    if root in images:  # one image
        return [image.stem for image in images]
    whole = [image.relative_to(root).as_posix() for image in images]
    videos = [image.parent if is_frame(image) else None for image in images]
    names = [_without_suffix(name, video is not None) for name, video in zip(whole, videos, strict=True)]
    while clashes := {name for name, count in Counter(names).items() if count > 1}:
        kept = {video for name, video in zip(names, videos, strict=True) if name in clashes and video}
        for index, video in enumerate(videos):
            if names[index] in clashes or video in kept:
                names[index] = whole[index]
    return names


def image_bytes(image: Path) -> int:
    """Return the size of an image file in bytes; of a frame, that of its video.

    Raises:
        UserError: no such file.
    """
    try:
        return stored_file(image).stat().st_size
    except OSError:
        raise UserError(f"{image}: no such file; check the folder and the split") from None


def is_image_source(path: Path) -> bool:
    """Return whether a path is a folder or a video: what images are listed of."""
    return path.is_dir() or is_video(path)


def refuse_output_inside(output: Path, images: Path, setting: str = "output_root") -> None:
    """Refuse to write below a folder of images, where results would be taken for images.

    Raises:
        UserError: naming both and the fix.
    """
    inner, outer = output.resolve(), images.resolve()
    if outer.is_dir() and (inner == outer or outer in inner.parents):
        raise UserError(
            f"{output}: lies inside the images {images}, results would be taken for images; give `{setting}` "
            "a folder outside"
        )


def report_images(images: Sequence[Path], ignored: Counter[str] | None = None) -> str:
    """Return in one line how many images there are, of which sizes, and what was left out, by kind."""
    from cups.io.png import image_size  # heavy

    step = -(-len(images) // LOOKED_AT) or 1
    sizes, bad = [], 0
    for image in images[::step]:
        try:
            sizes.append(image_size(image))
        except UserError:
            bad += 1
    parts = [f"{len(images)} image" + ("" if len(images) == 1 else "s")]
    if sizes:
        ends = sorted({min(sizes, key=_area), max(sizes, key=_area)}, key=_area)
        looked = f" ({len(sizes)} looked at)" if step > 1 else ""
        parts.append(" to ".join(f"{height}x{width}" for height, width in ends) + looked)
    if bad:
        parts.append(f"{bad} unreadable")
    return ", ".join([*parts, report_ignored(ignored or Counter())])


def but_ignored(ignored: Counter[str]) -> str:
    """Return " (3 files ignored ...)" for a message that there are no images; nothing where none was."""
    return f" ({report_ignored(ignored)})" if ignored.total() else ""


def report_ignored(ignored: Counter[str]) -> str:
    """Return how many files were left out, by kind."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common() if count)
    total = ignored.total()
    return f"{total} file{'' if total == 1 else 's'} ignored" + (f": {kinds}" if kinds else "")


def _area(size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return size[0] * size[1], size


def _without_suffix(name: str, is_video_frame: bool) -> str:
    path = Path(name)
    if not is_video_frame:
        return path.with_suffix("").as_posix()
    video = path.parent
    return (video.with_suffix("") / path.name).as_posix() if video.name else path.name


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(IMAGE_SUFFIXES + (HEIC_SUFFIXES if find_spec("pillow_heif") else ()))


def _is_wanted(file: Path, ignored: Counter[str]) -> bool:
    suffix = file.suffix.lower()
    if file.name.startswith(".") or file.name in SYSTEM_FILES:
        kind = HIDDEN
    elif suffix not in _suffixes() and suffix not in VIDEO_SUFFIXES:
        kind = HEIC if suffix in HEIC_SUFFIXES else OTHER
    elif not file.is_file():
        kind = BROKEN
    else:
        return True
    ignored[kind] += 1
    return False


def _frames_of(file: Path, ignored: Counter[str]) -> list[Path]:
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        return [file]
    try:
        return frame_paths(file)
    except UserError as error:
        log.warning("left out: %s", error)
        ignored[BROKEN] += 1
        return []


def _folders(root: Path, ignored: Counter[str]) -> Iterable[tuple[Path, list[str]]]:
    """Yield each folder below a root once, links after all that lie there themselves, with its files."""
    todo, links, seen = [root], list[Path](), set[str]()
    while todo or links:
        folder = todo.pop() if todo else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
        if folder != root and any(names <= {entry.name for entry in entries} for names in OWN_FOLDERS):
            ignored[OWN] += _count_files(folder)
            continue
        yield folder, [entry.name for entry in entries if not entry.is_dir()]
        for entry in entries:
            if not entry.is_dir():
                continue
            if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                ignored[HIDDEN] += _count_files(Path(entry.path))
            else:
                (links if entry.is_symlink() else todo).append(folder / entry.name)


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))
