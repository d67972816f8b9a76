"""What a step will need and cost, found before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.png import image_size
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import OutputRoot


@dataclass
class Need:
    """What one step needs; amounts count only what is still to be done.

    Attributes:
        name: of the step, for people.
        work: what there is to do ("2975 images", "60000 steps", "done").
        bytes: that its files will take on disk.
        flops: floating-point operations of its networks.
        device, precision: where they run, as in the settings.
        problems: what is missing, one line each, with the fix.
    """

    name: str = ""
    work: str = ""
    bytes: int = 0
    flops: float = 0.0
    device: str = "auto"
    precision: str = "auto"
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A step as it is going to run.

    Attributes:
        made: files and folders that earlier steps of the run will have written.
    """

    source: FrameSource
    run: OutputRoot
    settings: Any
    made: frozenset[Path]

    @property
    def root(self) -> Path:
        """The folder that is written into."""
        return self.run.root(self.source)

    @cached_property
    def frames(self) -> list[Frame]:
        """The frames of the split."""
        return self.source.frames()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first image; the others are taken to be as large."""
        return image_size(self.frames[0].image)

    def todo(self, *outputs: Folder) -> int:
        """Return the number of frames that lack a file in one of the folders."""
        if getattr(self.run, "overwrite", False):
            return len(self.frames)
        return sum(not all(folder.path(frame).is_file() for folder in outputs) for frame in self.frames)

    def missing(self, *paths: Path) -> Path | None:
        """Return the first of the paths that neither is there nor will be."""
        for path in paths:
            if not path.exists() and not self.made & {path, *path.parents}:
                return path
        return None


def first_error(problems: list[str], calls: Iterable[Any]) -> None:
    """Call functions until one raises a `UserError`; its line is kept."""
    try:
        for call in calls:
            call()
    except UserError as error:
        problems.append(str(error))
