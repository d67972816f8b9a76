"""Pseudo-labels of another tool to the flat training format of CUPS (Hahn et al., CVPR 2025)."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import IMAGE_MARK, comparable
from cups.io.fingerprint import digest_of
from cups.io.images import refuse_output_inside
from cups.io.png import image_size
from cups.io.provenance import describe_input
from cups.labels.coco_sets import CocoSet
from cups.labels.label_folders import IdFolder, Labels, open_labels
from cups.labels.pseudo_classes import Guess, open_clusters
from cups.taxonomy import id_dtype
from pseudo_labels.generators.cups_format import (
    LabelSplit,
    TrainingLabels,
    refuse_names_alike,
    write_summary,
)
from pseudo_labels.inputs.labels import check_aspect
from pseudo_labels.settings.labels import OtherLabelSettings
from pseudo_labels.steps.flags import flag
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import MOST_CLASSES, LabelKind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step

SCRIPT = "convert_other_labels"
MARKS = ("_panoptic", "_gtFine", "_gtCoarse", IMAGE_MARK)
"""Ends of names that tell kinds of files of one frame, not frames."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledSource(FrameSource):
    """The images that have labels."""

    labelled: frozenset[str] = flag(frozenset(), decides=False, hidden=True)

    def frames(self) -> list[Frame]:
        """Return the frames, sorted, see `FrameSource.frames`."""
        return [frame for frame in super().frames() if frame.name in self.labelled]


@dataclass(frozen=True, eq=False)
class OtherFolder(Folder):
    """The folder of the labels: of each frame the file that was changed last."""

    files: Mapping[str, Path] = field(default_factory=dict)

    def path(self, frame: Frame) -> Path:
        """File of a frame."""
        return self.files[frame.name]


@dataclass(frozen=True, eq=False)
class ConvertOther:
    """Picklable `process` of the step.

    Attributes:
        guess: the labels as pseudo-classes.
        names: name of a frame -> its name among the labels.
    """

    guess: Guess
    names: Mapping[str, str]
    output: TrainingLabels

    def __call__(self, frame: Frame) -> None:
        """Write both files of one frame.

        Raises:
            UserError: labels that cannot be read, or have another shape than the image.
        """
        panoptic = self.guess.read(self.names[frame.name])
        check_aspect(frame.image, image_size(frame.image), panoptic.shape)
        semantic = panoptic.category.astype(id_dtype(self.guess.total))
        is_object = panoptic.instance > 0
        number = np.where(is_object, np.cumsum(is_object), 0).astype(np.int32)
        self.output.write(frame, semantic[panoptic.ids], number[panoptic.ids])


def convert_labels(source: FrameSource, settings: OtherLabelSettings, run: FrameRun) -> Summary:
    """Write both files of all frames and, once all shards are through, what sums them up.

    Raises:
        UserError: labels that cannot be read, lack images or objects, or a folder with files of another run.
    """
    labels, frames = open_labels(settings.labels), source.frames()
    names = names_of(frames, labels, settings.only_labelled)
    guess = pseudo_classes(labels)
    labelled = LabelledSource(
        **{one.name: getattr(source, one.name) for one in fields(FrameSource)},
        labelled=frozenset(names),
    )
    frames = labelled.frames()
    target = settings.target(run.root(source))
    if source.image_dir is not None:
        refuse_output_inside(target, source.image_dir, "output_dir")
    output = TrainingLabels(target, guess.total, guess.things)
    refuse_names_alike(frames, output.files, run)
    folder = folder_of(labels, names)
    step = Step(
        SCRIPT,
        settings,
        ConvertOther(guess, names, output),
        output.files,
        output.show,
        # The JSON too: its content tells apart what two tools made of one set of images.
        inputs=[folder, *([labels.path] if isinstance(labels, CocoSet) else [])],
        fits={"pseudo-classes": digest_of([_named(guess), guess.things])},
        newer_than=labels.path if isinstance(labels, CocoSet) else None,
        labels=LabelKind("clusters", guess.total),
    )
    summary = run_step(labelled, step, run)
    if is_complete(frames, output.files, run):
        made = describe_input(folder.directory)["uses_ground_truth"]
        split = LabelSplit(guess.things, guess.total, str(labels.path.resolve()), made, SCRIPT)
        write_summary(target, split, run.num_workers, *[labels.path.name] * 2, names=_named(guess))
    return summary


def _named(guess: Guess) -> list[str]:
    """Return what the labels call each pseudo-class: the category's name, or the id in the maps."""
    if isinstance(guess.labels, CocoSet):
        return [category.name for category in guess.labels.categories]
    return [str(label) for label in guess.ids.tolist()]


def pseudo_classes(labels: Labels) -> Guess:
    """Return labels as the pseudo-classes of a network: all that their tool knows, used here or not.

    Raises:
        UserError: no objects, things or stuff alone, or too many pseudo-classes.
    """
    if isinstance(labels, IdFolder) and not labels.has_instances:
        raise UserError(
            f"{labels.path}: has class ids alone, and a network learns objects: put instances beside them "
            "(*_labelIds.png with *_instanceIds.png, or folders semantic/ and instance/)"
        )
    guess = open_clusters(labels, labels.names)
    if not 0 < len(guess.things) < guess.total:
        kind = "things" if guess.things else "stuff"
        said = "'isthing' of its categories" if isinstance(labels, CocoSet) else "its instances"
        raise UserError(f"{labels.path}: has {kind} alone, by {said}; a network needs things and stuff")
    if guess.total >= MOST_CLASSES:
        raise UserError(f"{labels.path}: {guess.total} pseudo-classes, at most {MOST_CLASSES - 1} fit")
    return guess


def folder_of(labels: Labels, names: Mapping[str, str]) -> OtherFolder:
    """Return the folder of the labels, with the file of each frame: of a COCO set that of its JSON."""
    if isinstance(labels, CocoSet):
        place = labels.path.resolve().parent
        files = {frame: labels.annotations[name].png for frame, name in names.items()}
    else:
        place = labels.path.resolve()
        files = {frame: _newest(labels.files[name]) for frame, name in names.items()}
    return OtherFolder(place.parent, place.name, ".png", (), files)


def _newest(files: Sequence[Path | None]) -> Path:
    return max((file for file in files if file is not None), key=lambda file: file.stat().st_mtime_ns)


def names_of(frames: Sequence[Frame], labels: Labels, only_labelled: bool) -> dict[str, str]:
    """Return the name among the labels of each frame that has some, by the frame's name.

    Names are paths without suffix and without what tells kinds of files (`MARKS`). Two are of one frame if
    one ends as the other, folder by folder; where no frame has labels so, if their last parts are equal and
    tell all frames apart. A COCO set names each frame twice: by its PNG, and by its image.

    Raises:
        UserError: no frame has labels, or not all (unless `only_labelled`), or one could have several.
    """
    by_end = _ByEnd(labels)
    found = {frame.name: name for frame in frames if (name := by_end.of(frame.name)) is not None}
    if not found:
        found = by_end.of_last_parts([frame.name for frame in frames])
    if not found:
        raise UserError(
            f"{labels.path}: no image has labels; names are paths without suffix, here {labels.names[0]}, of "
            f"the images {frames[0].name}"
        )
    _refuse_shared(labels, found)
    missing = [frame.image for frame in frames if frame.name not in found]
    if missing and not only_labelled:
        raise UserError(
            f"{missing[0]}: no labels in {labels.path} ({len(missing)} of {len(frames)} images have none); "
            "choose another `split`, or add `only_labelled`"
        )
    if missing:
        log.warning("%d of %d images have no labels and are left out", len(missing), len(frames))
    return found


def _refuse_shared(labels: Labels, found: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for frame, name in found.items():
        if seen.setdefault(name, frame) != frame:
            raise UserError(
                f"{labels.path}: {name} could be of {seen[name]} and of {frame}; name labels with their "
                "folders, as the images are"
            )


class _ByEnd:
    """Names of labels by how they end."""

    def __init__(self, labels: Labels) -> None:
        self.path = labels.path
        self.names: dict[str, list[tuple[list[str], str]]] = defaultdict(list)
        for name in labels.names:
            for alias in _aliases(labels, name):
                parts = comparable(alias).split("/")
                self.names[parts[-1]].append((parts, name))

    def of(self, frame: str) -> str | None:
        """Return the name of a frame's labels, None where it has none.

        Raises:
            UserError: several could be meant.
        """
        own, whole, ends = comparable(frame).split("/"), set[str](), set[str]()
        for parts, name in self.names.get(own[-1], ()):
            shared = min(len(parts), len(own))
            if parts[-shared:] == own[-shared:]:
                ends.add(name)
                whole |= {name} if parts == own else set()
        chosen = whole or ends
        if len(chosen) > 1:
            first, second = sorted(chosen)[:2]
            raise UserError(f"{self.path}: {first} and {second} could both be of {frame}; rename one")
        return next(iter(chosen), None)

    def of_last_parts(self, frames: Sequence[str]) -> dict[str, str]:
        """Return the names by the last parts alone, none where these do not tell all frames apart."""
        last = {frame: comparable(frame).rpartition("/")[2] for frame in frames}
        held = {end: {name for _, name in named} for end, named in self.names.items()}
        if len(set(last.values())) < len(last) or any(len(names) > 1 for names in held.values()):
            return {}
        return {frame: next(iter(held[end])) for frame, end in last.items() if end in held}


def _aliases(labels: Labels, name: str) -> set[str]:
    """Return what the frame of some labels may be called."""
    image = labels.annotations[name].image if isinstance(labels, CocoSet) else ""
    named = [name, *([Path(image).with_suffix("").as_posix()] if image else [])]
    return {_without_marks(one) for one in named}


def _without_marks(name: str) -> str:
    while mark := next((one for one in MARKS if name.endswith(one)), None):
        name = name.removesuffix(mark)
    return name
