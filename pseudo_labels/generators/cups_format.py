"""Semantic and instance maps to the flat training format of CUPS (Hahn et al., CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.files import write_json
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import code_version
from cups.ops.components import unify_semantics
from cups.taxonomy import id_dtype, void_value
from pseudo_labels.algorithms.cups_format import (
    FORMAT_FILE,
    FORMAT_VERSION,
    STATISTICS_FILE,
    FlatFolder,
    statistics_on_disk,
    write_statistics,
)
from pseudo_labels.inputs.instances import instance_inputs
from pseudo_labels.inputs.labels import find_things, read_pair
from pseudo_labels.settings.labels import CupsSettings
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.folders import CUPS_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step

SCRIPT = "convert_to_cups_format"


@dataclass(frozen=True)
class Convert:
    """Picklable `process` of the step."""

    semantics: Folder
    instances: Folder
    semantic_output: FlatFolder
    instance_output: FlatFolder
    num_classes: int
    things: tuple[int, ...] | None

    def __call__(self, frame: Frame) -> None:
        """Write both files of one frame."""
        semantic, instance = read_pair(
            self.semantics.path(frame), self.instances.path(frame), self.num_classes
        )
        void = void_value(self.num_classes)
        unified, kept = unify_semantics(semantic, instance, self.num_classes, void, self.things)
        dtype = id_dtype(self.num_classes)
        write_png(self.instance_output.path(frame), kept)
        write_png(self.semantic_output.path(frame), unified.astype(dtype))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, semantics, instances) of one frame for the contact sheet."""
        semantic = read_ids(self.semantic_output.path(frame))
        instance = read_ids(self.instance_output.path(frame))
        return label_pictures(read_image(frame.image), semantic, instance, self.num_classes)


def write_format(folder: Path, semantics: str, instances: str, num_classes: int) -> None:
    """Write `format.json`: what the files hold, for people and for checks.

    semantics, instances: names of the folders converted.
    """
    files = sorted(folder.glob(f"*{SEMANTIC_SUFFIX}"))
    sizes = sorted({read_ids(path).shape for path in files[:1]})
    content = {
        "format_version": FORMAT_VERSION,
        "code_version": code_version(),
        "num_pseudo_classes": num_classes,
        "void": void_value(num_classes),
        "frames": len(files),
        "label_size": list(sizes[0]) if sizes else None,
        "semantic_subdir": semantics,
        "instance_subdir": instances,
        "statistics": STATISTICS_FILE,
    }
    write_json(folder / FORMAT_FILE, content)


def kind_of_semantics(folder: Path, settings: CupsSettings) -> LabelKind:
    """Return what the semantics hold: as the settings say, else as the folder says.

    Raises:
        UserError: neither does, or they say different numbers.
    """
    if settings.trainid_input:
        number_of_classes(folder, 19, "trainid_input")
        return LabelKind("trainId", 19)
    count, told = number_of_classes(folder, settings.num_semantic_classes), label_kind(folder)
    if count is None:
        raise UserError(
            f"`trainid_input`: give either it or `num_semantic_classes`; {folder} does not say what its "
            "labels are"
        )
    return told if told is not None and told.num_classes == count else LabelKind("clusters", count)


def make_training_set(source: FrameSource, settings: CupsSettings, run: FrameRun) -> Summary:
    """Write both files of all frames and, once all shards are through, the statistics of the classes.

    Raises:
        UserError: missing labels, an unknown number of classes, or a folder with files of another run.
    """
    frames, root = source.frames(), run.root(source)
    mine = run.part(frames)
    semantics = Folder(root, settings.semantics, ".png")
    semantics.require(mine, "generate the semantics first, or check `semantic_subdir`")
    instances = instance_inputs(root, settings.instance_subdir)
    instances.require(mine, "generate the instances first, or check `instance_subdir`")
    refuse_other_semantics(semantics.directory, instances.directory)
    kind = kind_of_semantics(semantics.directory, settings)
    target = settings.output_dir or root / CUPS_FOLDER
    semantic_output = FlatFolder(target.parent, target.name, SEMANTIC_SUFFIX)
    instance_output = FlatFolder(target.parent, target.name, INSTANCE_SUFFIX)
    files = (semantic_output, instance_output)
    things = find_things(semantics, settings.thing_classes, settings.split_json)
    process = Convert(semantics, instances, semantic_output, instance_output, kind.num_classes, things)
    step = Step(
        SCRIPT,
        _recorded(settings.with_things(things), kind),
        process,
        files,
        process.show,
        inputs=[semantics, instances, *settings.split_files],
        labels=kind,
    )
    summary = run_step(source, step, run)
    if is_complete(frames, files, run):
        statistics = statistics_on_disk(target, kind.num_classes, run.num_workers)
        write_statistics(target / STATISTICS_FILE, statistics)
        write_format(target, semantics.name, instances.name, kind.num_classes)
    return summary


def _recorded(settings: CupsSettings, kind: LabelKind) -> CupsSettings:
    """Return the settings with all that was decided, so that a run that names it resumes one that did not."""
    named = settings.trainid_input or (settings.num_semantic_classes is None and kind.kind == "trainId")
    return replace(
        settings,
        semantic_subdir=settings.semantics,
        trainid_input=named,
        num_semantic_classes=None if named else kind.num_classes,
    )
