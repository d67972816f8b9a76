"""27-class CAUSE semantics to the 19 trainIds; classes that the 19 do not have become void."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from cups.taxonomy import class27_to_train_id
from pseudo_labels.inputs.labels import read_semantic
from pseudo_labels.settings.labels import RemapSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind
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


def require_classes(folder: Path) -> None:
    """Refuse a folder that does not hold CAUSE's 27 classes in their order.

    Raises:
        UserError: clusters, or a folder that does not say what it holds.
    """
    kind = label_kind(folder)
    if kind is None or kind.kind != "cause27":
        raise UserError(
            f"{folder}: holds clusters without names (rows of CAUSE's probe have no order), so no trainIds "
            "can be made of them; train on the clusters, or name overclusters by "
            "generate_overclustered_semantics.py `mapping` oracle or `names` (ground truth)"
        )


def make_train_ids(source: FrameSource, settings: RemapSettings, run: FrameRun) -> Summary:
    """Write the trainIds of all frames.

    Raises:
        UserError: missing semantics, or ones that hold clusters without names; a folder with files of another
            run.
    """
    root = run.root(source)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    semantics.require(
        run.part(source.frames()), "run pseudo_labels/generate_semantic_pseudolabels_cause.py first"
    )
    require_classes(semantics.directory)
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
