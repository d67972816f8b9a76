"""27-class CAUSE semantics to the 19 trainIds; classes that the 19 do not have become void."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cups.io.png import read_ids, read_image, write_png
from cups.taxonomy import class27_to_train_id
from pseudo_labels.inputs.labels import read_semantic
from pseudo_labels.settings.labels import RemapSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, run_step

SCRIPT = "remap_cause27_to_trainid"


@dataclass(frozen=True)
class Remap:
    """Picklable `process` of the step."""

    semantics: Folder
    output: Folder

    def __call__(self, frame: Frame) -> None:
        """Write the trainIds of one frame."""
        semantic = read_semantic(self.semantics.path(frame), num_classes=27)
        write_png(self.output.path(frame), class27_to_train_id()[semantic])

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, semantics) of one frame for the contact sheet."""
        semantic = read_ids(self.output.path(frame))
        return label_pictures(read_image(frame.image), semantic, None, 19)


def make_train_ids(source: FrameSource, settings: RemapSettings, run: FrameRun) -> Summary:
    """Write the trainIds of all frames.

    Raises:
        UserError: missing semantics, or a folder with files of another run.
    """
    root = run.root(source)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    semantics.require(
        run.part(source.frames()), "run pseudo_labels/generate_semantic_pseudolabels_cause.py first"
    )
    process = Remap(semantics, Folder(root, settings.output_subdir, ".png"))
    step = Step(
        SCRIPT,
        settings,
        process,
        [process.output],
        process.show,
        inputs=[semantics],
        labels=LabelKind("trainId", 19),
    )
    return run_step(source, step, run)
