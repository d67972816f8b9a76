"""Which pseudo-classes are things where there is no depth."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tqdm import tqdm

from cups.io.png import read_image
from cups.io.provenance import code_version, describe_input
from pseudo_labels.algorithms.thing_shapes import ShapeSums, shape_scores, shape_sums
from pseudo_labels.algorithms.thing_stuff import choose_things
from pseudo_labels.inputs.labels import read_semantic
from pseudo_labels.settings.thing_stuff import ThingStuffSettings
from pseudo_labels.steps.frames import Folder, Frame
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.workers import run_map

SCRIPT = "classify_stuff_things"


@dataclass(frozen=True)
class FoundSplit:
    """A choice of things before it is written.

    Attributes:
        content: of the split file.
        text: for people, to stand before the choice itself.
        cause: why the choice is worth nothing, and what to do; None where it is worth something.
        show: pictures of what was seen of a frame.
    """

    content: Mapping[str, Any]
    text: str
    cause: tuple[str, str] | None
    show: Callable[[Frame], list[np.ndarray]]


@dataclass(frozen=True)
class CountShapes:
    """Picklable function frame -> where the regions of each class lie."""

    semantics: Folder
    num_classes: int

    def __call__(self, frame: Frame) -> ShapeSums:
        """Count one frame."""
        return shape_sums(read_semantic(self.semantics.path(frame), self.num_classes), self.num_classes)


def by_shape(
    frames: Sequence[Frame], semantics: Folder, num_classes: int, settings: ThingStuffSettings, workers: int
) -> FoundSplit:
    """Choose the things by where the regions of each class lie in the image (`shape_scores`)."""
    with closing(run_map(frames, CountShapes(semantics, num_classes), workers)) as counted:
        sums = reduce(operator.add, tqdm(counted, SCRIPT, len(frames), unit="img"))
    score = shape_scores(sums)
    things = choose_things(score, sums.pixels > 0, settings.threshold, settings.num_things)
    content = {
        "things": things,
        "stuffs": [index for index in range(num_classes) if index not in things],
        "num_pseudo_classes": num_classes,
        "threshold": settings.threshold if settings.num_things is None else None,
        "num_things": settings.num_things,
        "no_depth": True,
        "semantic_subdir": settings.semantic_subdir,
        "frames": len(frames),
        "descriptions": {"score": "share of the class in closed regions, times nearness to the middle row"},
        "classes": {str(index): {"score": round(float(value), 5)} for index, value in enumerate(score)},
        "script": SCRIPT,
        "code_version": code_version(),
        "uses_ground_truth": describe_input(semantics.directory)["uses_ground_truth"],
    }
    cause = None
    if not things:
        cause = (
            f"{semantics.directory}: no class is a thing: each runs out of the picture, or lies at its top "
            "or bottom",
            "give a lower `threshold`, `num_things`, or list the things by hand with `thing_classes` in the "
            "next step",
        )

    def show(frame: Frame) -> list[np.ndarray]:
        semantic = read_semantic(semantics.path(frame), num_classes)
        return label_pictures(read_image(frame.image), semantic, None, num_classes)

    return FoundSplit(content, "", cause, show)
