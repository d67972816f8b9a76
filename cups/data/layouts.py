"""Finding the files of a data set by the patterns of its description."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cups.errors import UserError
from cups.io.images import list_files, natural_key
from cups.labels.coco_sets import CocoSet, read_coco_set
from cups.set_files import COCO, Layout, SetFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameFiles:
    """The files of one frame; `instances` is `labels` where one file holds both."""

    name: str
    image: Path
    labels: Path
    instances: Path


@dataclass(frozen=True)
class FoundSet:
    """The frames of a split, in natural order.

    Attributes:
        frames: all that are evaluated.
        coco: the JSON of a COCO set, and `names` its name of each frame's annotation.
        expected: how many frames the split has, None where nobody said.
    """

    frames: tuple[FrameFiles, ...]
    coco: CocoSet | None = None
    names: Mapping[str, str] | None = None
    expected: int | None = None


def layout_of(described: SetFile) -> Layout:
    """Return the patterns of a set whose layout is not that of Cityscapes."""
    assert described.layout is not None
    return described.layout


def json_file(described: SetFile, root: Path, split: str) -> Path:
    """Return the JSON of a COCO set.

    Raises:
        UserError: none of the patterns leads to a file.
    """
    patterns = layout_of(described).json
    files = [root / _fill(pattern, described.split_folder(split)) for pattern in patterns]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(f"{_tried(files)}: no such file; {how_to_get(described, root)}")
    return found


def is_there(described: SetFile, root: Path, split: str) -> bool:
    """Return whether a folder holds images and labels of a split at all."""
    layout, folder = layout_of(described), described.split_folder(split)
    if described.reader == COCO:
        return any((root / _fill(pattern, folder)).is_file() for pattern in layout.json)
    return all(
        any(_base(root, _fill(pattern, folder)).is_dir() for pattern in patterns)
        for patterns in (layout.images, layout.labels)
    )


def how_to_get(described: SetFile, root: Path) -> str:
    """Return what an error tells to do about missing files."""
    source = described.download or "all files of the data set"
    return f"unpack {source} into {root}, or give its folder with `data_root`"


def find_frames(described: SetFile, root: Path, split: str, select: str = "") -> FoundSet:
    """Return the frames of a split.

    Args:
        described: the data set.
        root: its folder.
        split: as users name it.
        select: pattern of the names of frames, as in a shell; empty is the description's own.

    Raises:
        UserError: files that are missing: the first, how many, and where they are to be had.
    """
    find = _coco_frames if described.reader == COCO else _frames
    found = find(described, root, split)
    chosen = select or described.select
    frames = tuple(frame for frame in found.frames if not chosen or fnmatchcase(frame.name, chosen))
    if not frames:
        raise UserError(
            f"{root}: none of the {len(found.frames)} frames, such as {found.frames[0].name}, is named "
            f"{chosen}; give another pattern with DATA.VAL_FRAMES"
        )
    expected = None if chosen else described.frames.get(split)
    if expected is not None and len(frames) < expected:
        log.warning(
            "%s: %d of %d frames of %s %s; for all of them, %s",
            root, len(frames), expected, described.title, split, how_to_get(described, root),
        )  # fmt: skip
    return FoundSet(frames, found.coco, found.names, expected)


def _frames(described: SetFile, root: Path, split: str) -> FoundSet:
    layout, folder = layout_of(described), described.split_folder(split)
    images = _matches(described, root, layout.images, folder)
    labels = _matches(described, root, layout.labels, folder)
    objects = _matches(described, root, layout.instances, folder) if layout.instances else labels
    others = [part for part in (images, labels, objects) if not (described.unlabelled and part is images)]
    names = sorted(set().union(*(part.files for part in others)), key=natural_key)
    for part in (images, labels, objects):
        _refuse_missing(described, root, names, part)
    frames = (FrameFiles(n, images.files[n], labels.files[n], objects.files[n]) for n in names)
    return FoundSet(tuple(frames))


@dataclass(frozen=True)
class _Matches:
    """The files that a pattern leads to, by the names of their frames."""

    pattern: str
    files: Mapping[str, Path]


def _matches(described: SetFile, root: Path, patterns: Iterable[str], folder: str) -> _Matches:
    """Return the files of the first pattern that leads to any.

    Raises:
        UserError: none does.
    """
    filled = [_fill(pattern, folder) for pattern in patterns]
    for pattern in filled:
        if files := _match(root, pattern):
            return _Matches(pattern, files)
    shown = [root / pattern.replace("{frame}", "*") for pattern in filled]
    raise UserError(f"{_tried(shown)}: no such files; {how_to_get(described, root)}")


def _match(root: Path, pattern: str) -> dict[str, Path]:
    base = _base(root, pattern)
    start, _, end = pattern.partition("{frame}")
    start = start.rpartition("/")[2]
    found = {}
    for file in list_files(base) if base.is_dir() else []:
        name = file.relative_to(base).as_posix()
        if name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end):
            found[name[len(start) : len(name) - len(end)]] = file
    return found


def _base(root: Path, pattern: str) -> Path:
    """Return the folder below which the files of a pattern lie."""
    return root / pattern.partition("{")[0].rpartition("/")[0]


def _fill(pattern: str, folder: str) -> str:
    return pattern.replace("{split}", folder)


def _tried(paths: Sequence[Path]) -> str:
    return " or ".join(map(str, paths[:3]))


def _refuse_missing(described: SetFile, root: Path, names: Sequence[str], found: _Matches) -> None:
    """Refuse names without a file.

    Raises:
        UserError: the first missing file, and how many are missing.
    """
    missing = [name for name in names if name not in found.files]
    if missing:
        path = root / found.pattern.replace("{frame}", missing[0])
        raise UserError(
            f"{path}: no such file ({len(missing)} of {len(names)} frames lack theirs); "
            f"{how_to_get(described, root)}"
        )


def _coco_frames(described: SetFile, root: Path, split: str) -> FoundSet:
    layout, folder = layout_of(described), described.split_folder(split)
    json = json_file(described, root, split)
    patterns = [_fill(pattern, folder) for pattern in layout.labels]
    coco = read_coco_set(json, _png_finder(described, root, json, patterns))
    end = patterns[0].partition("{frame}")[2].removesuffix(".png")
    names = {name.removesuffix(end): name for name in coco.names}
    if len(names) < len(coco.names):
        twice = next(name for name in coco.names if names[name.removesuffix(end)] != name)
        raise UserError(
            f"{json}: lists {twice} and {names[twice.removesuffix(end)]}, of one frame; remove one"
        )
    annotations = {frame: coco.annotations[name] for frame, name in names.items()}
    images = _images(described, root, folder, {frame: one.image for frame, one in annotations.items()})
    ordered = sorted(names, key=natural_key)
    for kind in ("png", "image"):
        files = {f: images[f] if kind == "image" else annotations[f].png for f in ordered}
        missing = [file for file in files.values() if not file.is_file()]
        if missing:
            raise UserError(
                f"{missing[0]}: no such file, which {json.name} lists ({len(missing)} of {len(files)} are "
                f"missing); {how_to_get(described, root)}"
            )
    frames = (FrameFiles(f, images[f], annotations[f].png, annotations[f].png) for f in ordered)
    return FoundSet(tuple(frames), coco, names)


def _png_finder(described: SetFile, root: Path, json: Path, patterns: Sequence[str]) -> Callable[[str], Path]:
    """Return where the PNG of an annotation is, by the pattern that leads to the first one."""
    chosen: list[Callable[[str], Path]] = []

    def place(pattern: str) -> Callable[[str], Path]:
        head, _, tail = pattern.partition("{frame}")
        return lambda file: (
            root / f"{head}{file.removesuffix('.png').removesuffix(tail.removesuffix('.png'))}{tail}"
        )

    def find(file: str) -> Path:
        if not chosen:
            places = [place(pattern) for pattern in patterns]
            there = next((one for one in places if one(file).is_file()), None)
            if there is None:
                raise UserError(
                    f"{_tried([one(file) for one in places])}: no such file, which {json.name} lists; "
                    f"{how_to_get(described, root)}"
                )
            chosen.append(there)
        return chosen[0](file)

    return find


def _images(described: SetFile, root: Path, folder: str, listed: Mapping[str, str]) -> dict[str, Path]:
    """Return the image of each frame: by the pattern that leads to the first one, else by the file's name.

    Raises:
        UserError: neither leads to an image.
    """
    patterns = [_fill(pattern, folder) for pattern in layout_of(described).images]
    first = next(iter(listed))
    for pattern in patterns:
        if "{image}" in pattern and not listed[first]:
            continue
        if (root / pattern.format(frame=first, image=listed[first])).is_file():
            return {f: root / pattern.format(frame=f, image=image) for f, image in listed.items()}
    by_stem = _by_stem(root, patterns)
    found = {
        f: by_stem.get(Path(image or f).stem) or by_stem.get(Path(f).stem) for f, image in listed.items()
    }
    if found[first] is None:
        shown = [root / one.format(frame=first, image=listed[first] or "*") for one in patterns]
        raise UserError(f"{_tried(shown)}: no such image; {how_to_get(described, root)}")
    return {f: file or root / f for f, file in found.items()}


def _by_stem(root: Path, patterns: Iterable[str]) -> dict[str, Path]:
    """Return the images below the folders of some patterns, by their names; none that several have."""
    found: dict[str, Path | None] = {}
    for base in dict.fromkeys(_base(root, pattern) for pattern in patterns if "/" in pattern):
        for file in list_files(base) if base != root and base.is_dir() else []:
            if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                found[file.stem] = file if found.setdefault(file.stem, file) == file else None
    return {stem: file for stem, file in found.items() if file is not None}
