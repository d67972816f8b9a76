"""Semantic and instance maps to COCO panoptic PNG files and one JSON per split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.coco_panoptic import (
    PanopticFile,
    categories_of,
    read_panoptic,
    segment_ids,
    to_rgb,
    write_panoptic_json,
)
from cups.io.file_names import IMAGE_MARK
from cups.io.png import read_image, write_png
from cups.ops.panoptic import to_panoptic
from cups.taxonomy import class_set, void_value
from cups.visualization import panoptic_to_color
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.instances import found_instances
from pseudo_labels.inputs.labels import read_pair
from pseudo_labels.settings.labels import DEFAULT_CLASSES, PanopticSettings
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import class_colors, fit
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step

SCRIPT = "generate_panoptic_pseudolabels"


@dataclass(frozen=True)
class Merge:
    """Picklable `process` of the step."""

    semantics: Folder
    instances: Folder
    output: Folder
    things: tuple[int, ...]
    num_classes: int

    def __call__(self, frame: Frame) -> None:
        """Write the panoptic PNG of one frame."""
        paths = self.semantics.path(frame), self.instances.path(frame)
        semantic, instance = read_pair(*paths, self.num_classes)
        panoptic = to_panoptic(semantic, instance, self.things, self.num_classes)
        try:
            segments = segment_ids(panoptic, void_value(self.num_classes))[panoptic.ids]
        except ValueError as error:
            raise UserError(f"{paths[1]}: {error}; raise `min_area` of the instances") from None
        write_png(self.output.path(frame), to_rgb(segments))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, panoptic map) of one frame for the contact sheet."""
        image = read_image(frame.image)
        panoptic = read_panoptic(self.output.path(frame), void_value(self.num_classes))
        picture = panoptic_to_color(panoptic, class_colors(self.num_classes))
        return [image, fit(picture, image)]


def write_json(
    output: Folder, frames: Sequence[Frame], split: str, things: Sequence[int], num_classes: int
) -> Path:
    """Write COCO panoptic JSON for the frames of a split whose PNG exists; returns its path."""
    names = class_set(19).names if num_classes == 19 else [f"cluster {i}" for i in range(num_classes)]
    files = [
        PanopticFile(_image_name(frame), str(output.path(frame).relative_to(output.directory)))
        for frame in frames
        if output.exists(frame)
    ]
    path = output.directory / f"{split}.json"
    write_panoptic_json(path, output.directory, files, categories_of(names, things))
    return path


def _image_name(frame: Frame) -> str:
    """Return the file name of an image as COCO tells it: with its folders, of Cityscapes without."""
    name = frame.image.name
    return name if frame.image.stem.endswith(IMAGE_MARK) else (frame.relative / name).as_posix()


def split_of(frame: Frame) -> str:
    """Return the split of a frame: its first folder, or "images" for a plain folder of images."""
    return frame.relative.parts[0] if frame.relative.parts else "images"


def make_panoptic(source: FrameSource, settings: PanopticSettings, run: FrameRun) -> Summary:
    """Write the panoptic PNG of all frames and, once all shards are through, the JSON of each split.

    Raises:
        UserError: missing labels, no thing/stuff split, or a folder with files of another run.
    """
    frames, root = source.frames(), run.root(source)
    mine = run.part(frames)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    semantics.require(mine, "generate the semantics first, or check `semantic_subdir`")
    instances = found_instances(root, settings.instance_subdir, settings.instances)
    instances.require(mine, "generate the instances first, or check `instance_subdir`")
    refuse_other_semantics(semantics.directory, instances.directory)
    things = required_things(source, semantics, settings, run)
    given = settings.num_semantic_classes
    num_classes = number_of_classes(semantics.directory, given) or DEFAULT_CLASSES
    output = Folder(root, settings.folder, ".png")
    process = Merge(semantics, instances, output, things, num_classes)
    step = Step(
        SCRIPT,
        replace(
            settings.with_things(things), instance_subdir=instances.name, num_semantic_classes=num_classes
        ),
        process,
        [process.output],
        process.show,
        inputs=[semantics, instances, *settings.split_files],
    )
    summary = run_step(source, step, run)
    # All that were ever written, not only the first `max_images`.
    whole = replace(source, max_images=None)
    everything = whole.frames() if is_complete(frames, step.outputs, run) else []
    for split in sorted({split_of(frame) for frame in everything}):
        of_split = [frame for frame in everything if split_of(frame) == split]
        write_json(process.output, of_split, split, things, num_classes)
    return summary
