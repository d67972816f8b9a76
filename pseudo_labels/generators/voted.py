"""Semantics on which neighbouring frames have voted: consistent in time, without training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cups.errors import UserError
from cups.io.png import read_image, write_png
from cups.ops.flow import gray
from cups.video.clips import clips_of
from pseudo_labels.algorithms.neighbour_votes import carried_labels, flow_size, vote
from pseudo_labels.inputs.labels import carry_split, count_classes, find_things, read_semantic
from pseudo_labels.settings.labels import VoteSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import label_kind, number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, run_step

log = logging.getLogger(__name__)
SCRIPT = "generate_voted_semantics"


@dataclass(frozen=True)
class Vote:
    """Picklable `process` of the step.

    Attributes:
        neighbours: frames that vote, the nearest first, by the frame's name.
        things: pseudo-classes that are things; none where nothing tells.
        stuff_alone: whether pixels of things, and those that would become some, stay as they are.
    """

    semantics: Folder
    output: Folder
    neighbours: Mapping[str, Sequence[Frame]]
    things: tuple[int, ...]
    num_classes: int
    stuff_alone: bool = True

    def __call__(self, frame: Frame) -> None:
        """Write the labels of one frame."""
        own = read_semantic(self.semantics.path(frame), self.num_classes)
        picture, others = _brightness(frame, own.shape), []
        for other in self.neighbours[frame.name]:
            labels = read_semantic(self.semantics.path(other), self.num_classes)
            if labels.shape == own.shape:  # a clip whose size changes is another clip
                others.append(carried_labels(picture, _brightness(other, own.shape), labels))
        is_thing = np.zeros(2**16, dtype=bool)
        is_thing[list(self.things)] = True
        voted = vote(own, others, is_thing)
        stays = (is_thing[own] | is_thing[voted]) & self.stuff_alone
        write_png(self.output.path(frame), np.where(stays, own, voted))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, labels before and after) of one frame for the contact sheet."""
        maps = [read_semantic(folder.path(frame)) for folder in (self.semantics, self.output)]
        before, after = (label_pictures(read_image(frame.image), one, None, self.num_classes) for one in maps)
        return [*before, after[1]]


def _brightness(frame: Frame, size: tuple[int, ...]) -> np.ndarray:
    height, width = flow_size((size[0], size[1]))
    return cv2.resize(gray(read_image(frame.image)), (width, height), interpolation=cv2.INTER_AREA)


def neighbours_of(frames: Sequence[Frame], reach: int) -> dict[str, list[Frame]]:
    """Return the frames of the same clip at most `reach` places away, the nearest first, of each frame."""
    found: dict[str, list[Frame]] = {frame.name: [] for frame in frames}
    known = {frame.name: frame for frame in frames}
    for clip in clips_of([(frame.name, frame.image) for frame in frames]):
        places = dict(zip(clip.names, clip.places, strict=True))
        by_place = {place: name for name, place in places.items()}
        steps = [step for away in range(1, reach + 1) for step in (-away, away)]
        for name, place in places.items():
            found[name] = [known[by_place[place + step]] for step in steps if place + step in by_place]
    return found


def make_voted(source: FrameSource, settings: VoteSettings, run: FrameRun) -> Summary:
    """Write the voted semantics of all frames; their thing/stuff split is that of the input.

    Raises:
        UserError: missing semantics or thing/stuff split, no frame with a neighbour, or a folder with files
            of another run.
    """
    root, everything = run.root(source), source.frames()
    semantics, output = (Folder(root, name, ".png") for name in (settings.semantic_subdir, settings.folder))
    semantics.require(everything, "run pseudo_labels/generate_overclustered_semantics.py first")
    neighbours = neighbours_of(everything, settings.reach)
    alone = sum(not others for others in neighbours.values())
    if alone == len(everything):
        raise UserError(
            f"{source.image_folder}: no frame has a neighbour in time, and votes need video; number the "
            "frames of a clip one by one, or go on without votes"
        )
    log.info("%d of %d frames have neighbours", len(everything) - alone, len(everything))
    classes = number_of_classes(semantics.directory, settings.num_semantic_classes)
    num_classes = classes or count_classes(semantics, everything)
    things, stuff_alone = find_things(semantics), settings.vote_on == "stuff"
    if things is None and stuff_alone:
        raise UserError(
            f"{semantics.directory}: nothing tells its things; run pseudo_labels/classify_stuff_things.py "
            "first, or let `vote_on` be all"
        )
    process = Vote(semantics, output, neighbours, things or (), num_classes, stuff_alone)
    step = Step(
        SCRIPT,
        settings,
        process,
        [output],
        process.show,
        inputs=[semantics],
        beside=neighbours,
        labels=label_kind(semantics.directory),
    )
    summary = run_step(source, step, run)
    carry_split(semantics, output, num_classes)
    return summary
