"""Semantics whose things have classes of whole objects, and instances whose outlines follow the image."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cups.errors import NothingFound, UserError
from cups.io.fingerprint import array_digest, digest_of
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import describe_input
from cups.taxonomy import id_dtype, void_value
from pseudo_labels.algorithms.object_classes import (
    classes_of,
    fit_classes,
    label_table,
    object_semantics,
)
from pseudo_labels.algorithms.overclustering import Fits
from pseudo_labels.generators.kept_objects import ReadObjects, ReadVectors
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.instances import found_instances
from pseudo_labels.inputs.labels import write_split_beside
from pseudo_labels.settings.labels import ObjectSettings
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.resume import count_images, files_besides, reach
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step, writers
from pseudo_labels.steps.workers import run_map

SCRIPT = "generate_object_classes"
CENTROIDS = "object_classes.npz"
FEW = 5
"""Objects a class; with fewer a class is hardly more than an object."""
STORE = ".objects"
"""Folder of what the fit found in each frame, until its labels are written."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ClassifyObjects:
    """Picklable `process` of the step.

    Attributes:
        centroids: (k, D) of the classes.
        table: value of pixels outside of objects, see `label_table`.
        labels: what the written values mean.
    """

    read: ReadObjects
    centroids: np.ndarray
    table: np.ndarray
    semantic_output: Folder
    instance_output: Folder
    labels: LabelKind

    def __call__(self, frame: Frame) -> None:
        """Write both files of one frame."""
        semantic, instances, objects = self.read(frame)
        first = self.labels.num_classes - len(self.centroids)
        classes = first + classes_of(objects.vectors, self.centroids)
        labels = object_semantics(semantic, instances, objects, classes, self.table)
        write_png(self.instance_output.path(frame), instances.astype(np.uint16))
        write_png(self.semantic_output.path(frame), labels.astype(id_dtype(self.labels.num_classes)))
        self.read.forget(frame)

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, semantics, instances) of one frame for the contact sheet."""
        semantic, instances = (
            read_ids(folder.path(frame)) for folder in (self.semantic_output, self.instance_output)
        )
        return label_pictures(read_image(frame.image), semantic, instances, self.labels.num_classes)


def clusters_of(semantics: Folder, given: int | None) -> int:
    """Return the number of clusters that a semantic folder holds.

    Raises:
        UserError: nothing tells, or its classes have names, which new classes of things would not have.
    """
    count, kind = number_of_classes(semantics.directory, given), label_kind(semantics.directory)
    if count is None:
        raise UserError(f"`num_semantic_classes`: missing; {semantics.directory} does not say it")
    if kind is not None and kind.kind != "clusters":
        raise UserError(
            f"{semantics.directory}: its classes have names ({kind.kind}), classes of objects have none; "
            "give clusters with `semantic_subdir`"
        )
    return count


def fitted(
    read: ReadVectors, frames: Sequence[Frame], settings: ObjectSettings, fits: Fits, workers: int
) -> np.ndarray:
    """Load the centroids of an earlier run with the same settings, or fit and save them: (k, D) float32.

    Of fewer objects than classes, each is one.

    Raises:
        NothingFound: no objects.
    """
    images = count_images(len(frames))

    def fit() -> np.ndarray:
        with closing(run_map(frames, read, workers)) as found:
            parts = list(tqdm(found, "objects", len(frames), unit="img"))
        vectors = np.concatenate([part for part, _ in parts])
        if not len(vectors):
            shutil.rmtree(read.read.store.directory, ignore_errors=True)
            raise NothingFound(
                f"{read.read.instances.directory}: no object in {images}; leave this step out, or "
                "find more instances first"
            )
        without = sum(len(part) > 0 and not street for part, street in parts)
        count = min(settings.object_classes, len(vectors))
        for text in _doubts(settings.object_classes, len(vectors), without, images):
            log.warning("WARNING: %s", text)
        return fit_classes(vectors, count, settings.seed)

    names = ("object_classes", "seed", "fit_split", "keep_outlines", "min_area")
    return fits.load_or_fit(CENTROIDS, fit, {name: getattr(settings, name) for name in names})


def _doubts(classes: int, objects: int, without: int, images: str) -> list[str]:
    """Return in words why classes may mean little.

    Args:
        classes: as many are asked for.
        objects: number of all.
        without: images with objects, but without a street.
        images: how many were fitted on, in words.
    """
    told = f"{objects} object" + ("" if objects == 1 else "s")
    found = []
    if without:
        found.append(f"no street seen in {without} of {images}: how high their objects stand is not known")
    if objects < classes:
        found.append(f"{told} in {images}, so as many classes, not {classes}")
    elif objects < FEW * classes:
        found.append(f"{told} in {images} for {classes} classes: so few tell little; ask for fewer classes")
    return found


def make_object_classes(source: FrameSource, settings: ObjectSettings, run: FrameRun) -> Summary:
    """Write semantics and instances of all frames, and which classes are things.

    The classes are fitted on all images of the fitting split, whatever shard or split is labelled.

    Raises:
        NothingFound: no objects.
        UserError: missing semantics, instances or depth, semantics with names, or folders with files of
            another run.
    """
    root = run.root(source)
    outputs = Folder(root, settings.folder, ".png"), Folder(root, settings.instance_output, ".png")
    with writers([folder.directory for folder in outputs], SCRIPT, settings):
        return _make(source, settings, run, root, outputs)


def _reader(root: Path, settings: ObjectSettings, frames: Sequence[Frame]) -> ReadObjects:
    """Return the reader of the frames; everything that it needs is there."""
    semantics = Folder(root, settings.semantic_subdir, ".png")
    depths = Folder(root, settings.depth_subdir, ".npy")
    instances = found_instances(root, settings.instance_subdir, settings.instances)
    for folder, fix in (
        (semantics, "generate the semantics first, or check `semantic_subdir`"),
        (instances, "run pseudo_labels/generate_depth_guided_instances.py first, or check `instance_subdir`"),
        (depths, "run pseudo_labels/generate_depth_spidepth.py first, or check `depth_subdir`"),
    ):
        folder.require(frames, fix)
    clusters = clusters_of(semantics, settings.num_semantic_classes)
    refuse_other_semantics(semantics.directory, instances.directory)
    store = Folder(root, f"{settings.folder}/{STORE}", ".npz")
    outlines = settings.min_area, settings.keep_outlines
    return ReadObjects(semantics, instances, depths, store, clusters, *outlines)


def _make(
    source: FrameSource, settings: ObjectSettings, run: FrameRun, root: Path, outputs: tuple[Folder, Folder]
) -> Summary:
    everything, fitting = source.frames(), source.of_split(settings.fit_split).frames()
    read = _reader(root, settings, [*fitting, *run.part(everything)])
    things = required_things(source, read.semantics, settings, run, settings.depth_subdir)
    inputs = [read.semantics, read.instances, read.depths]
    marks = digest_of([describe_input(folder.directory)["fingerprint"] for folder in inputs])
    stays = len(files_besides(outputs[0], reach(everything, run)))
    names = [frame.name for frame in fitting]
    fits = Fits(outputs[0].directory, run.overwrite, run.run_id, names, marks, stays)
    written = frozenset(frame.name for frame in everything)
    centroids = fitted(ReadVectors(read, written), fitting, settings, fits, run.num_workers)
    labels = LabelKind("clusters", read.num_classes - len(set(things)) + len(centroids))
    table = label_table(centroids, things, read.num_classes, void_value(labels.num_classes))
    process = ClassifyObjects(read, centroids, table, outputs[0], outputs[1], labels)
    step = Step(
        SCRIPT,
        settings.with_things(things),
        process,
        outputs,
        process.show,
        inputs=[*inputs, *settings.split_files],
        fits={"classes of objects": array_digest(centroids)},
        newer_than=outputs[0].directory / CENTROIDS,
        labels=labels,
    )
    summary = run_step(source, step, run)
    if is_complete(everything, outputs, run):
        shutil.rmtree(read.store.directory, ignore_errors=True)
    things_of_objects = range(labels.num_classes - len(centroids), labels.num_classes)
    write_split_beside(outputs[0], things_of_objects, labels.num_classes, read.semantics.name)
    return summary
