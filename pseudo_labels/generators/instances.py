"""Instance masks by splitting the regions of thing classes along depth edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import read_provenance
from cups.visualization import depth_to_color, instances_to_color
from pseudo_labels.algorithms.instance_splitting import depth_guided_instances
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_semantic
from pseudo_labels.inputs.outlines import decide
from pseudo_labels.settings.groups import Splitting
from pseudo_labels.settings.labels import InstanceSettings
from pseudo_labels.settings.outlines import REFERENCE_ROWS
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.nothing import require_instances
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step

SCRIPT = "generate_depth_guided_instances"


@dataclass(frozen=True)
class GenerateInstances:
    """Picklable `process` of the step."""

    semantics: Folder
    depths: Folder | None
    output: Folder
    things: tuple[int, ...]
    settings: Splitting

    def __call__(self, frame: Frame) -> None:
        """Write the instances of one frame."""
        semantic = read_semantic(self.semantics.path(frame))
        depth = None
        if self.depths is not None:
            depth = read_depth(self.depths.path(frame))
            check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        instances = depth_guided_instances(semantic, depth, self.things, self.settings)
        write_png(self.output.path(frame), instances)

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, depth, instances) of one frame for the contact sheet."""
        image = read_image(frame.image)
        pictures = [image]
        if self.depths is not None:
            pictures.append(depth_to_color(read_depth(self.depths.path(frame))))
        pictures.append(instances_to_color(read_ids(self.output.path(frame))))
        return [fit(picture, image) for picture in pictures]


def refuse_label_pixels(output: Folder, semantics: Folder, frames: Sequence[Frame]) -> None:
    """Raise a `UserError` if a folder holds files of version 0.2, whose `min_area` meant other areas.

    It counted pixels of the label files: the same number is the same area for files of 512 rows only.
    """
    earlier = read_provenance(output.directory)
    if earlier is None or "edge" in earlier.get("arguments", {}):
        return
    kept = next((frame for frame in frames if output.exists(frame)), None)
    if kept is not None and read_semantic(semantics.path(kept)).shape[0] != REFERENCE_ROWS:
        raise UserError(
            f"{output.directory}: holds files of version 0.2, whose `min_area` counted pixels of the label "
            "files; add `overwrite`, or give another `method_name`"
        )


def make_instances(source: FrameSource, settings: InstanceSettings, run: FrameRun) -> Summary:
    """Write the instances of all frames.

    Raises:
        NothingFound: no class is a thing, or next to no image has an instance; the files stay.
        UserError: missing semantics or depth, nothing that tells things from stuff, or a folder with
            files of another run.
    """
    frames, root = run.part(source.frames()), run.root(source)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check `semantic_subdir`")
    things = required_things(source, semantics, settings, run, settings.depth_subdir)
    depths = None if settings.no_depth else Folder(root, settings.depth_subdir, ".npy")
    if depths is not None:
        depths.require(frames, "run pseudo_labels/generate_depth_spidepth.py first, or give `no_depth`")
    output = Folder(root, settings.folder, ".png")
    settings = decide(settings, semantics.directory, None if depths is None else depths.directory)
    if not run.overwrite:
        refuse_label_pixels(output, semantics, frames)
    process = GenerateInstances(semantics, depths, output, things, settings)
    inputs: list[Path | Folder] = [folder for folder in (semantics, depths) if folder is not None]
    inputs += [settings.split_json] if settings.split_json else []
    step = Step(SCRIPT, settings.with_things(things), process, [output], process.show, inputs=inputs)
    summary = run_step(source, step, run)
    if is_complete(source.frames(), [output], run):
        accepted = settings.accept_nothing
        require_instances(output, source.frames(), settings.least_found, process.show, accepted)
    return summary
