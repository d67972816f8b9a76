"""Semantic and instance maps to the flat training format of CUPS (Hahn et al., CVPR 2025)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE
from cups.io.files import write_json
from cups.io.images import refuse_output_inside
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import any_ground_truth, code_version, describe_input
from cups.label_split import by_thingness
from cups.ops.components import unify_semantics
from cups.taxonomy import id_dtype, void_value
from pseudo_labels.algorithms.cups_format import (
    FORMAT_FILE,
    FORMAT_VERSION,
    STATISTICS_FILE,
    FlatFolder,
    Statistics,
    statistics_on_disk,
    write_statistics,
)
from pseudo_labels.generators.instances import make_instances
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.instances import found_instances, instance_inputs
from pseudo_labels.inputs.labels import read_pair, write_split
from pseudo_labels.settings.labels import CupsSettings, InstanceSettings
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.folders import DEPTH_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step

SCRIPT = "convert_to_cups_format"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingLabels:
    """The two files of each frame in the training format."""

    folder: Path
    num_classes: int
    things: tuple[int, ...]

    @property
    def files(self) -> tuple[FlatFolder, FlatFolder]:
        """Semantics and instances."""
        place = self.folder.parent, self.folder.name
        return FlatFolder(*place, SEMANTIC_SUFFIX), FlatFolder(*place, INSTANCE_SUFFIX)

    def write(self, frame: Frame, semantic: np.ndarray, instance: np.ndarray) -> None:
        """Write both files of one frame, the semantics uniform inside each instance."""
        void = void_value(self.num_classes)
        unified, kept = unify_semantics(semantic, instance, self.num_classes, void, self.things)
        semantics, instances = (folder.path(frame) for folder in self.files)
        write_png(instances, kept)
        write_png(semantics, unified.astype(id_dtype(self.num_classes)))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, semantics, instances) of one frame for the contact sheet."""
        semantic, instance = (read_ids(folder.path(frame)) for folder in self.files)
        return label_pictures(read_image(frame.image), semantic, instance, self.num_classes)


@dataclass(frozen=True)
class Convert:
    """Picklable `process` of the step."""

    semantics: Folder
    instances: Folder
    output: TrainingLabels

    def __call__(self, frame: Frame) -> None:
        """Write both files of one frame."""
        semantic, instance = read_pair(
            self.semantics.path(frame), self.instances.path(frame), self.output.num_classes
        )
        self.output.write(frame, semantic, instance)

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, semantics, instances) of one frame for the contact sheet."""
        return self.output.show(frame)


@dataclass(frozen=True)
class LabelSplit:
    """The thing/stuff split of a conversion: what is written beside the labels, for the training.

    Attributes:
        taken_from: words or a file that told the things.
        uses_ground_truth: whether labels were read to tell them (None: unknown).
        script: the step that converts.
    """

    things: tuple[int, ...]
    num_classes: int
    taken_from: str
    uses_ground_truth: bool | None
    script: str = SCRIPT

    def content(self, statistics: Statistics) -> dict[str, Any]:
        """Return the JSON content: both lists in the order of a network's outputs (falling thingness)."""
        counted = torch.from_numpy(statistics.all_pixels), torch.from_numpy(statistics.inside)
        known = set(self.things)
        things = tuple(index for index in range(self.num_classes) if index in known)
        stuffs = tuple(index for index in range(self.num_classes) if index not in known)
        return {
            "things": list(by_thingness(*counted, things)),
            "stuffs": list(by_thingness(*counted, stuffs)),
            "num_pseudo_classes": self.num_classes,
            "taken_from": self.taken_from,
            "script": self.script,
            "code_version": code_version(),
            "uses_ground_truth": self.uses_ground_truth,
        }


def split_of(
    semantics: Folder, settings: CupsSettings, things: tuple[int, ...], kind: LabelKind
) -> LabelSplit:
    """Return the split of a conversion, with where it came from."""
    if settings.thing_classes is not None:
        return LabelSplit(things, kind.num_classes, "thing_classes of the conversion", False)
    path = settings.split_json or semantics.directory / SPLIT_FILE
    if not path.is_file():
        return LabelSplit(things, kind.num_classes, f"the names of the classes ({kind.kind})", False)
    told = [describe_input(folder)["uses_ground_truth"] for folder in (semantics.directory, path)]
    return LabelSplit(things, kind.num_classes, str(path.resolve()), any_ground_truth(told))


def write_summary(
    folder: Path, split: LabelSplit, workers: int, semantics: str, instances: str, **more: Any
) -> None:
    """Write what sums up all files: statistics of the classes, thing/stuff split, `format.json`.

    Args:
        semantics, instances: names of the folders converted.
        more: further entries of `format.json`.
    """
    statistics = statistics_on_disk(folder, split.num_classes, workers)
    write_statistics(folder / STATISTICS_FILE, statistics)
    content = split.content(statistics)
    write_split(folder / SPLIT_FILE, content)
    _write_format(folder, semantics, instances, content, **more)


def _write_format(folder: Path, semantics: str, instances: str, split: dict[str, Any], **more: Any) -> None:
    """Write `format.json`: what the files hold, for people and for checks."""
    files = sorted(folder.glob(f"*{SEMANTIC_SUFFIX}"))
    sizes = sorted({read_ids(path).shape for path in files[:1]})
    content = {
        "format_version": FORMAT_VERSION,
        "code_version": code_version(),
        "num_pseudo_classes": split["num_pseudo_classes"],
        "void": void_value(split["num_pseudo_classes"]),
        "frames": len(files),
        "label_size": list(sizes[0]) if sizes else None,
        "semantic_subdir": semantics,
        "instance_subdir": instances,
        "statistics": STATISTICS_FILE,
        "split": {name: split[name] for name in ("things", "stuffs", "taken_from")},
        **more,
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


def chosen_semantics(root: Path, settings: CupsSettings) -> CupsSettings:
    """Return the settings with the semantic folder named; warn where clusters stand in for trainIds."""
    name = settings.semantics(root)
    unnamed = settings.trainid_input and settings.semantic_subdir is None and "_mapped_" not in name
    if unnamed:
        log.warning(
            "WARNING: no named labels here; %s holds clusters, and they are converted as clusters, not as "
            "the 19 trainIds. That is right for training: Stage 2 needs no names",
            root / name,
        )
    return replace(settings, semantic_subdir=name, trainid_input=settings.trainid_input and not unnamed)


def required_instances(
    source: FrameSource, semantics: Folder, settings: CupsSettings, run: FrameRun
) -> Folder:
    """Return the instances; the default ones are made here where they are missing and depth is there.

    Raises:
        UserError: missing instances that cannot be made.
    """
    frames = run.part(source.frames())
    folder = found_instances(
        semantics.root, settings.instance_subdir, default := settings.instances(semantics.name)
    )
    if settings.instance_subdir is None and not all(folder.path(frame).is_file() for frame in frames):
        folder = instance_inputs(semantics.root, default)
    fix = "generate the instances first, or check `instance_subdir`"
    if settings.instance_subdir is None and not all(folder.path(frame).is_file() for frame in frames):
        depths = Folder(semantics.root, DEPTH_FOLDER, ".npy")
        fix = (
            "run pseudo_labels/generate_depth_spidepth.py, then "
            "pseudo_labels/generate_depth_guided_instances.py "
            f"`semantic_subdir` {semantics.name}, or name other instances by `instance_subdir`"
        )
        if all(depths.path(frame).is_file() for frame in frames):
            log.info(
                "%s: incomplete; made with the defaults of generate_depth_guided_instances.py",
                folder.directory,
            )
            things = {"thing_classes": settings.thing_classes, "split_json": settings.split_json}
            choice = InstanceSettings(
                semantic_subdir=semantics.name,
                accept_nothing=settings.accept_nothing,
                **things,  # type: ignore[arg-type]
            )
            make_instances(source, choice, replace(run, overwrite=False, show=0))
    folder.require(frames, fix)
    refuse_other_semantics(semantics.directory, folder.directory)
    return folder


def refuse_names_alike(frames: Sequence[Frame], files: Sequence[FlatFolder], run: FrameRun) -> None:
    """Refuse frames whose files would be one, and files that an earlier version named by bare stems.

    Until version 0.2 a frame of a sub-folder lost its folder there: files of two clips were one.

    Raises:
        UserError: two frames of one name; files of bare stems, unless `overwrite` makes all anew.
    """
    seen: dict[str, Frame] = {}
    for frame in frames:
        other = seen.setdefault(frame.flat, frame)
        if other is not frame:
            raise UserError(f"{frame.image}: would be named as {other.image} in the labels; rename one")
    bare = {frame.stem for frame in frames} - seen.keys()
    left = [
        path for one in files for stem in bare if (path := one.directory / f"{stem}{one.suffix}").is_file()
    ]
    if left and not run.redoes_all:
        raise UserError(
            f"{left[0]}: named without its folder, by an earlier version; add `overwrite`, or use another "
            "`output_dir`"
        )
    for path in left:
        path.unlink()


def make_training_set(source: FrameSource, settings: CupsSettings, run: FrameRun) -> Summary:
    """Write both files of all frames and, once all shards are through, the statistics of the classes.

    Beside them lies the thing/stuff split that was used: a training takes it.

    Raises:
        UserError: missing labels, an unknown number of classes, nothing that tells things from stuff, or a
            folder with files of another run.
    """
    frames, root = source.frames(), run.root(source)
    settings = chosen_semantics(root, settings)
    semantics = Folder(root, settings.semantics(root), ".png")
    semantics.require(run.part(frames), "generate the semantics first, or check `semantic_subdir`")
    kind = kind_of_semantics(semantics.directory, settings)
    things = required_things(source, semantics, settings, run)
    if settings.thing_classes is not None and max(things, default=0) >= kind.num_classes:
        raise UserError(f"`thing_classes`: {max(things)} is no pseudo-class, there are {kind.num_classes}")
    instances = required_instances(source, semantics, settings, run)
    split = split_of(semantics, settings, things, kind)
    target = settings.labels(root, semantics.name)
    if source.image_dir is not None:
        refuse_output_inside(target, source.image_dir, "output_dir")
    output = TrainingLabels(target, kind.num_classes, things)
    files = output.files
    refuse_names_alike(frames, files, run)
    process = Convert(semantics, instances, output)
    step = Step(
        SCRIPT,
        _recorded(settings.with_things(things), kind, instances.name),
        process,
        files,
        process.show,
        inputs=[semantics, instances, *settings.split_files],
        labels=kind,
    )
    summary = run_step(source, step, run)
    if is_complete(frames, files, run):
        write_summary(target, split, run.num_workers, semantics.name, instances.name)
    return summary


def _recorded(settings: CupsSettings, kind: LabelKind, instances: str) -> CupsSettings:
    """Return the settings with all that was decided, so that a run that names it resumes one that did not."""
    named = settings.trainid_input or (settings.num_semantic_classes is None and kind.kind == "trainId")
    return replace(
        settings,
        instance_subdir=instances,
        trainid_input=named,
        num_semantic_classes=None if named else kind.num_classes,
    )
