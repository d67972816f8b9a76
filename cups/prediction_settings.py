"""What predicting on one's own images can be told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, CROP, DEVICE, FRACTION, refuse_impossible
from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import UserError

LIMITS = {
    "confidence": FRACTION,
    "semantic_weight": FRACTION,
    "max_images": COUNT,
    "device": DEVICE,
    "working_size": CROP,
}


@dataclass(frozen=True)
class PredictionSettings:
    """Settings of `predict.py`.

    Attributes:
        checkpoint: the network.
        input: folders of images, images and videos.
        output: folder of everything that is written.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1".
        confidence: lowest score of an object, 0-1.
        names: file of class names; None takes those beside the checkpoint, if any.
        working_size: (H, W) of the training images; None as the checkpoint says.
        use_teacher: of a self-training checkpoint, take the averaged teacher.
        snap_to_regions: let stuff follow the edges of the image; None as the network was trained.
        semantic_weight: of the semantic head in an object's score, 0-1; None as the network was trained.
        tracking: objects of a clip keep their numbers from frame to frame.
        votes: an object of a clip has the category that most of its score went to so far, not each frame's.
        overlays: write pictures, and videos of videos.
        max_images: predict on the first images only.
        skip_bad: leave out images that cannot be read.
        overwrite: predict everything again, with these settings.

    Raises:
        UserError: a value that is not possible.
    """

    checkpoint: Path
    input: Sequence[Path]
    output: Path
    device: str = "auto"
    confidence: float = CONFIDENCE_THRESHOLD
    names: Path | None = None
    working_size: tuple[int, int] | None = None
    use_teacher: bool = False
    snap_to_regions: bool | None = None
    semantic_weight: float | None = None
    tracking: bool = True
    votes: bool = False
    overlays: bool = True
    max_images: int | None = None
    skip_bad: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        refuse_impossible(self, LIMITS)
        if self.votes and not self.tracking:
            raise UserError("`votes`: needs the objects of clips to be followed; leave out `no_tracking`")


def read_size(text: str) -> tuple[int, int]:
    """Read (H, W) from text like "640x1280".

    Raises:
        ValueError: another text.
    """
    match = re.fullmatch(r"([1-9]\d*)[x,]([1-9]\d*)", text.strip())
    if match is None:
        raise ValueError(f"{text}: a size looks like 640x1280, height first")
    return int(match[1]), int(match[2])
