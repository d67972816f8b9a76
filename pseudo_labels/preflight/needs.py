"""What a step will need and cost, found before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cups.errors import UserError
from pseudo_labels.steps.earlier import first_size
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import OutputRoot


@dataclass
class Need:
    """What one step needs; amounts count only what is still to be done.

    Attributes:
        work: what there is to do ("2975 images", "60000 steps", "done").
        device, precision: where its networks run, as in the settings.
        size: bytes that its files will take on disk.
        flops: floating-point operations of its networks.
        problems: what is missing, one line each, with the fix.
        name: of the step, for people.
    """

    work: str
    device: str = "auto"
    precision: str = "auto"
    size: int = 0
    flops: float = 0.0
    problems: list[str] = field(default_factory=list)
    name: str = ""

    def check(self, look: Callable[[], object]) -> None:
        """Call a function that raises a `UserError` where something is missing, and keep its line."""
        try:
            look()
        except UserError as error:
            self.problems.append(str(error))


@dataclass(frozen=True)
class Job:
    """A step as it is going to run.

    Attributes:
        planned: files and folders that earlier steps of the run will have written, with their settings.
    """

    source: FrameSource
    run: OutputRoot
    settings: Any
    planned: Mapping[Path, Any]

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
        """(H, W) of the first image that can be read; the others are taken to be as large."""
        return first_size(self.frames)

    def todo(self, *outputs: Folder) -> int:
        """Return the number of frames that lack a file in one of the folders."""
        if getattr(self.run, "overwrite", False):
            return len(self.frames)
        return sum(not all(folder.path(frame).is_file() for folder in outputs) for frame in self.frames)

    def lacks(self, path: Path) -> bool:
        """Return whether a path neither is there nor will be."""
        return not path.exists() and not self.planned.keys() & {path, *path.parents}
