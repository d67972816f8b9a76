"""Bring the frames of a video into a folder of images, every Nth; photos beside it are linked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from cups.allowed import COUNT
from cups.errors import UserError, run_main
from cups.io.files import atomic_write
from cups.io.images import frame_names, list_images, refuse_output_inside
from cups.io.png import read_image
from cups.io.video import is_frame
from pseudo_labels.steps.flags import Settings, add_flags, flag, make_parser, take

QUALITY = 95
"""Of the JPEG files: a tenth of the size of PNG, and no loss that a network sees."""


@dataclass(frozen=True)
class FramesSettings(Settings):
    """Frames."""

    input: Path = flag(meaning="video, or a folder that holds some")
    output: Path = flag(meaning="folder of the images")
    every: int = flag(1, "take each Nth frame", metavar="N", allowed=COUNT)
    max_images: int | None = flag(None, "take the first N only", metavar="N", allowed=COUNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_output_inside(self.output, self.input, "output")


def write_frames(settings: FramesSettings) -> int:
    """Write the frames that are not there yet; return how many images the folder has.

    Raises:
        UserError: no frame, or one that cannot be read.
    """
    images = list_images(settings.input)
    named = zip(frame_names(settings.input, images), images, strict=True)
    kept = [
        (name, path) for name, path in named if not is_frame(path) or int(path.name) % settings.every == 0
    ][: settings.max_images]
    if not kept:
        raise UserError(f"{settings.input}: holds no image and no video; check `input`")
    for name, path in tqdm(kept, desc="frames", unit="img"):
        if not is_frame(path):
            _link(settings.output / f"{name}{path.suffix}", path)
        else:
            _write(settings.output / f"{name}.jpg", path)
    return len(kept)


def _link(target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.unlink(missing_ok=True)
        target.symlink_to(path.resolve())


def _write(target: Path, path: Path) -> None:
    if target.is_file():
        return  # files are renamed into place when they are whole
    pixels = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    atomic_write(target, lambda temporary: temporary.write_bytes(encoded))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the frames."""
    parser = make_parser(__doc__)
    add_flags(parser, FramesSettings)
    settings = take(FramesSettings, parser.parse_args(argv))
    print(f"{write_frames(settings)} images: {settings.output}")
    return 0


if __name__ == "__main__":
    run_main(main)
