"""Finding images on disk: below any folder, and in a split of the Cityscapes layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError
from cups.io.file_names import IMAGE_SUFFIX, IMAGE_SUFFIXES
from cups.io.video import frame_paths, is_video


def list_images(folder: Path) -> list[Path]:
    """Return every image below a folder, in a video, or the one given; sorted; none if it is missing."""
    if is_video(folder):
        return frame_paths(folder)
    if folder.is_file():
        return [folder] if folder.suffix.lower() in IMAGE_SUFFIXES else []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = []
    for path in files:
        found += frame_paths(path) if is_video(path) else []
        found += [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
    return found


def frame_names(root: Path, images: Sequence[Path]) -> list[str]:
    """Return each frame's path relative to `root`, without suffix unless two would be equal."""
    if root in images:
        return [image.stem for image in images]
    whole = [image.relative_to(root).as_posix() for image in images]
    names = []
    for image, name in zip(images, whole, strict=True):
        path = Path(name)
        frame = not image.suffix and path.parent.name
        names.append((path.parent.with_suffix("") / path.name if frame else path.with_suffix("")).as_posix())
    counts = Counter(names)
    return [name if counts[name] == 1 else full for name, full in zip(names, whole, strict=True)]


def refuse_output_inside(output: Path, images: Path, setting: str = "output_root") -> None:
    """Refuse to write below a folder of images, where results would be taken for images.

    Raises:
        UserError: naming both and the fix.
    """
    inner, outer = output.resolve(), images.resolve()
    if outer.is_dir() and (inner == outer or outer in inner.parents):
        raise UserError(
            f"{output}: lies inside the images {images}, results would be taken for images; give "
            f"`{setting}` a folder outside"
        )


def list_city_images(split: Path) -> list[Path]:
    """Return the images of a split, `{split}/{city}/{stem}_leftImg8bit.png`, sorted by path."""
    return sorted(split.glob(f"*/*{IMAGE_SUFFIX}"))


def frame_stem(image: Path) -> str:
    """Return the name of a frame in the Cityscapes layout: its file name without `_leftImg8bit.png`."""
    return image.name.removesuffix(IMAGE_SUFFIX)
