"""The images that a step works on, and the folders that hold one file for each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cups.allowed import COUNT
from cups.errors import UserError
from cups.io.file_names import IMAGE_MARK, IMAGE_SUFFIX, flat_name
from cups.io.files import is_readable, read_json
from cups.io.images import (
    Listing,
    but_ignored,
    frame_names,
    frame_stem,
    image_bytes,
    is_image_source,
    list_city_images,
    list_images,
    report_images,
    scan_images,
)
from pseudo_labels.steps.flags import Settings, flag

ROOT_VARIABLE = "CITYSCAPES_ROOT"
"""Environment variable that gives `cityscapes_root` where no flag does."""
SPLITS = ("train", "val", "test", "train_extra")
FAILURES = "failures.json"
"""Frames that a step left out, with the reason, in each folder that it writes."""
IMAGES = "source_images.json"
"""Size in bytes of the image that each file was made of, by the frame's name."""


@dataclass(frozen=True)
class Frame:
    """One image: its stem (without `_leftImg8bit`), its sub-folder (`train/<city>`), its file.

    In a plain folder both are parts of the path below it (`cups.io.images.frame_names`).
    """

    stem: str
    relative: Path
    image: Path

    @property
    def name(self) -> str:
        """Sub-folder and stem: what tells frames apart."""
        return (self.relative / self.stem).as_posix()

    @property
    def flat(self) -> str:
        """Its name in the flat training format: the stem in the Cityscapes layout, as CUPS has it."""
        return self.stem if self.image.stem == f"{self.stem}{IMAGE_MARK}" else flat_name(self.name)


@dataclass(frozen=True)
class FrameSource(Settings):
    """Data."""

    cityscapes_root: Path | None = flag(
        None, "folder that holds leftImg8bit/", decides=False, environment=ROOT_VARIABLE, unless=["image_dir"]
    )
    image_dir: Path | None = flag(None, "plain folder of images instead (needs `output_root`)", decides=False)
    split: str = flag("train", "split of leftImg8bit/", choices=(*SPLITS, "all"), decides=False)
    max_images: int | None = flag(
        None, "use only the first N images", metavar="N", decides=False, allowed=COUNT
    )
    left_out_by: Path | None = flag(None, decides=False, hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image_dir is None) == (self.cityscapes_root is None):
            raise UserError(f"`cityscapes_root`: give either it (or set {ROOT_VARIABLE}) or `image_dir`")

    @property
    def image_folder(self) -> Path:
        """The folder that holds the images (for provenance)."""
        if self.image_dir is not None:
            return self.image_dir
        assert self.cityscapes_root is not None
        return self.cityscapes_root / "leftImg8bit"

    def frames(self) -> list[Frame]:
        """Return the frames, sorted; without those that steps below the root `left_out_by` left out.

        Raises:
            UserError: a missing folder, an empty split, two frames of one name.
        """
        frames = list(self._plain(self._scan()) if self.image_dir else self._cityscapes())
        if not frames:
            if self.image_dir:
                ignored = but_ignored(self._scan().ignored)
                raise UserError(f"{self.image_dir}: no images inside{ignored}; check `image_dir`")
            folder = self.image_folder / self.split
            if others := list_images(folder):
                raise UserError(
                    f"{folder}: none of its {len(others)} images is named {{city}}/{{stem}}{IMAGE_SUFFIX} "
                    f"(first: {others[0].name}); rename them, or use `image_dir`"
                )
            raise UserError(f"{folder}: no images inside; check the folder and `split`")
        _refuse_duplicates(frames)
        frames = frames[: self.max_images]
        bad = left_out_below(self.left_out_by, frames) if self.left_out_by else {}
        return [frame for frame in frames if frame.name not in bad]

    def report(self, frames: Sequence[Frame]) -> str:
        """Return in one line how many images there are, of which sizes, and what was left out."""
        ignored = self._scan().ignored if self.image_dir else None
        return report_images([frame.image for frame in frames], ignored)

    def of_split(self, split: str) -> FrameSource:
        """Return the source of another split; a plain folder has no splits."""
        return self if self.image_dir else replace(self, split=split)

    def _cityscapes(self) -> Iterator[Frame]:
        base = self.image_folder
        if not base.parent.is_dir():
            raise UserError(f"{self.cityscapes_root}: no such folder; give the Cityscapes root")
        splits = [s for s in SPLITS if (base / s).is_dir()] if self.split == "all" else [self.split]
        for split in splits:
            if not (base / split).is_dir():
                raise UserError(f"{base / split}: no such folder; unpack leftImg8bit there or change `split`")
            for image in list_city_images(base / split):
                yield Frame(frame_stem(image), Path(split) / image.parent.name, image)

    def _scan(self) -> Listing:
        folder = self.image_folder
        if not is_image_source(folder):
            raise UserError(
                f"{folder}: no such folder; give a folder of images, or a video, with `image_dir`"
            )
        return scan_images(folder)

    def _plain(self, listing: Listing) -> Iterator[Frame]:
        for name, image in zip(frame_names(self.image_folder, listing.images), listing.images, strict=True):
            path = Path(name)
            yield Frame(path.name, path.parent, image)


def left_out_below(root: Path, frames: Sequence[Frame], besides: Collection[Path] = ()) -> dict[str, str]:
    """Return which frames a step under an output root left out, and has not read since: {name: its folder}.

    An image that has another size now counts as mended.

    Args:
        besides: folders whose notes do not count.
    """
    known, found = {frame.name: frame for frame in frames}, dict[str, str]()
    for path in sorted(root.glob(f"*/{FAILURES}")):
        if path.parent in besides:
            continue
        sizes = _read_notes(path.parent / IMAGES)
        for name in _read_notes(path):
            if name in known and sizes.get(name) in (None, image_bytes(known[name].image)):
                found.setdefault(name, path.parent.name)
    return found


def _read_notes(path: Path) -> dict[str, Any]:
    return read_json(path, "remove it and run the step again") if path.is_file() else {}


def _refuse_duplicates(frames: Sequence[Frame]) -> None:
    seen: dict[str, Path] = {}
    for frame in frames:
        other = seen.setdefault(frame.name, frame.image)
        if other != frame.image:
            raise UserError(f"{frame.image}: same name as {other}; rename one, outputs would collide")


def first_file(folder: Path, stem: str, endings: Sequence[str]) -> Path:
    """Return the first file that exists of `stem` with each of the endings, else that with the first."""
    first = folder / f"{stem}{endings[0]}"
    others = (folder / f"{stem}{ending}" for ending in endings[1:])
    return first if len(endings) == 1 or first.is_file() else next((f for f in others if f.is_file()), first)


@dataclass(frozen=True)
class Folder:
    """An output (or input) folder with one file per frame: `root/name/{frame.relative}/{stem}{suffix}`.

    Attributes:
        also: of a folder that is read, other endings that files of elsewhere may have.
    """

    root: Path
    name: str
    suffix: str
    also: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """The folder that holds the files and `provenance.json`."""
        return self.root / self.name

    def path(self, frame: Frame) -> Path:
        """File of a frame: the first that exists of those it may be, else the one that ends in `suffix`."""
        return first_file(self.directory / frame.relative, frame.stem, (self.suffix, *self.also))

    def exists(self, frame: Frame) -> bool:
        """Whether the file of a frame exists and is readable (not cut short)."""
        return is_readable(self.path(frame))

    def require(self, frames: Sequence[Frame], fix: str) -> None:
        """Raise a `UserError` that names the folder, or the first missing file, and the fix."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: no such folder; {fix}")
        for frame in frames:
            if not self.path(frame).is_file():
                reason = _read_notes(self.directory / FAILURES).get(frame.name)
                if reason is not None:
                    raise UserError(
                        f"{frame.image}: left out of {self.directory} ({reason}); mend the image and run "
                        "that step again, or add `skip_bad`"
                    )
                raise UserError(f"{self.path(frame)}: no such file; {fix}")


def input_paths(inputs: Sequence[Path | Folder]) -> list[Path]:
    """Return what was read as paths, for provenance: of a `Folder` its directory."""
    return [one.directory if isinstance(one, Folder) else one for one in inputs]
