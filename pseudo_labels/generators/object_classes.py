"""Semantics whose things have classes of whole objects, and instances whose outlines follow the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cups.errors import NothingFound, UserError
from cups.io.fingerprint import array_digest, digest_of
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import describe_input
from cups.ops.depth_edges import resize_depth
from cups.ops.regions import even_regions
from cups.taxonomy import id_dtype, void_value
from pseudo_labels.algorithms.object_classes import (
    Objects,
    classes_of,
    describe_objects,
    fit_classes,
    follow_edges,
    label_table,
    object_semantics,
)
from pseudo_labels.algorithms.overclustering import Fits
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.instances import found_instances
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_pair, write_split_beside
from pseudo_labels.settings.labels import ObjectSettings
from pseudo_labels.settings.outlines import pixels_of
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.resume import files_besides, reach
from pseudo_labels.steps.step import Step, Summary, run_step, writers
from pseudo_labels.steps.workers import run_map

SCRIPT = "generate_object_classes"
CENTROIDS = "object_classes.npz"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadObjects:
    """Picklable function frame -> semantics (H, W), instances (H, W) as they are written, and the objects."""

    semantics: Folder
    instances: Folder
    depths: Folder
    num_classes: int
    min_area: int
    keep_outlines: bool

    def __call__(self, frame: Frame) -> tuple[np.ndarray, np.ndarray, Objects]:
        """Read one frame."""
        semantic, instances = read_pair(
            self.semantics.path(frame), self.instances.path(frame), self.num_classes
        )
        depth = read_depth(self.depths.path(frame))
        check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        if not self.keep_outlines:
            image = cv2.resize(read_image(frame.image), semantic.shape[::-1], interpolation=cv2.INTER_AREA)
            least = pixels_of(self.min_area, len(semantic))
            instances = follow_edges(instances, even_regions(image), least)
        depth = resize_depth(depth, (semantic.shape[0], semantic.shape[1]), sharp=True)
        return semantic, instances, describe_objects(semantic, instances, depth, self.num_classes)


@dataclass(frozen=True)
class ReadVectors:
    """Picklable function frame -> (N, D) vectors of its objects."""

    read: ReadObjects

    def __call__(self, frame: Frame) -> np.ndarray:
        """Read one frame."""
        return self.read(frame)[2].vectors


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
    read: ReadObjects, frames: Sequence[Frame], settings: ObjectSettings, fits: Fits, workers: int
) -> np.ndarray:
    """Load the centroids of an earlier run with the same settings, or fit and save them: (k, D) float32.

    Of fewer objects than classes, each is one.

    Raises:
        NothingFound: no objects.
    """

    def fit() -> np.ndarray:
        with closing(run_map(frames, ReadVectors(read), workers)) as found:
            vectors = np.concatenate(list(tqdm(found, "objects", len(frames), unit="img")))
        if not len(vectors):
            raise NothingFound(
                f"{read.instances.directory}: no object in {len(frames)} images; leave this step out, or "
                "find more instances first"
            )
        count = min(settings.object_classes, len(vectors))
        if count < settings.object_classes:
            log.warning("WARNING: %d objects in %d images, so %d classes", len(vectors), len(frames), count)
        return fit_classes(vectors, count, settings.seed)

    names = ("object_classes", "seed", "fit_split", "keep_outlines", "min_area")
    return fits.load_or_fit(CENTROIDS, fit, {name: getattr(settings, name) for name in names})


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
    return ReadObjects(semantics, instances, depths, clusters, settings.min_area, settings.keep_outlines)


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
    centroids = fitted(read, fitting, settings, fits, run.num_workers)
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
    things_of_objects = range(labels.num_classes - len(centroids), labels.num_classes)
    write_split_beside(outputs[0], things_of_objects, labels.num_classes, read.semantics.name)
    return summary
