"""Which pseudo-classes are things: statistics of all frames, and the file that holds the choice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.locking import made_once
from cups.io.png import read_image
from cups.io.provenance import any_ground_truth, code_version, describe_input
from cups.io.thing_stuff import NOTHING_FOUND
from cups.ops.depth_edges import REFERENCE_HEIGHT, resize_depth
from cups.ops.ground import ObjectModel
from cups.visualization import depth_to_color, instances_to_color
from pseudo_labels.algorithms.instance_splitting import object_proposals
from pseudo_labels.algorithms.thing_stuff import (
    ClassSums,
    Statistics,
    choose_things,
    frame_sums,
    no_sums,
    statistics_of,
)
from pseudo_labels.generators.thing_shapes import SCRIPT, FoundSplit, by_shape
from pseudo_labels.inputs.labels import (
    check_aspect,
    count_classes,
    find_things,
    read_depth,
    read_semantic,
    thing_classes,
    write_split,
)
from pseudo_labels.inputs.outlines import depth_source
from pseudo_labels.settings.groups import ThingChoice
from pseudo_labels.settings.thing_stuff import StatisticRun, ThingStuffSettings
from pseudo_labels.steps.ancestry import MADE_OF, made_of
from pseudo_labels.steps.folders import DEPTH_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import stated_classes
from pseudo_labels.steps.nothing import PICTURE, evenly_spread, refuse_nothing
from pseudo_labels.steps.options import ShardRun
from pseudo_labels.steps.pictures import fit, label_pictures
from pseudo_labels.steps.workers import run_map

LEAST_STREETS = 0.5
"""Share of frames that must show a street: where most do not, chance decides what stands on one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatherSums:
    """Picklable reader: the sums of one frame."""

    semantics: Folder
    depths: Folder
    num_classes: int
    model: ObjectModel

    def __call__(self, frame: Frame) -> ClassSums | None:
        """Read semantics and depth, at most `REFERENCE_HEIGHT` rows, and count."""
        semantic = read_semantic(self.semantics.path(frame), self.num_classes)
        depth = read_depth(self.depths.path(frame))
        check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        height = min(REFERENCE_HEIGHT, semantic.shape[0])
        size = (max(1, round(semantic.shape[1] * height / semantic.shape[0])), height)
        semantic = cv2.resize(semantic, size, interpolation=cv2.INTER_NEAREST_EXACT)
        depth = resize_depth(depth, size[::-1], sharp=not self.model.blur)
        return frame_sums(semantic, depth, self.num_classes, self.model)


def gather(frames: Sequence[Frame], read: GatherSums, workers: int) -> tuple[ClassSums, int]:
    """Sum over frames; returns the sums and the number of frames with a street.

    Raises:
        UserError: unreadable files.
    """
    total, used = no_sums(read.num_classes), 0
    with closing(run_map(frames, read, workers)) as counted:
        for sums in tqdm(counted, SCRIPT, len(frames), unit="img"):
            if sums is not None:
                total = total + sums
                used += 1
    if used < len(frames):
        log.warning("no street found in %d of %d frames; they were left out", len(frames) - used, len(frames))
    return total, used


def table(statistics: Statistics, things: Sequence[int], occurs: np.ndarray) -> str:
    """Return a markdown table of the classes by falling score."""
    rows = [
        "| class | kind | score | % of pixels | regions / image | area % | extent | front edges | height |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for index in np.argsort(-statistics.score, kind="stable"):
        if occurs[index]:
            kind = "thing" if index in things else "stuff"
            rows.append(
                f"| {index} | {kind} | {statistics.score[index]:.2f} "
                f"| {100 * statistics.share_of_pixels[index]:.2f} "
                f"| {statistics.regions_per_image[index]:.1f} | {100 * statistics.region_area[index]:.2f} "
                f"| {statistics.vertical_extent[index]:.2f} | {statistics.front_edges[index]:.2f} "
                f"| {statistics.height_above_street[index]:.2f} |"
            )
    return "\n".join(rows)


DESCRIPTIONS = {
    "score": "share of the class's pixels inside object-like regions of the depth map",
    "share_of_pixels": "share of all pixels",
    "regions_per_image": "8-connected regions per image that has the class",
    "region_area": "mean area of a region, share of the image",
    "vertical_extent": "mean height of a region (by area), share of the image height",
    "front_edges": "share of the class's outline that stands in front of something farther",
    "height_above_street": "mean height above the street in camera heights, cut at 4",
}


def describe(
    statistics: Statistics,
    things: Sequence[int],
    used: int,
    settings: ThingStuffSettings,
    inputs: Sequence[Path],
) -> dict[str, object]:
    """Return the JSON content: things, stuffs, settings, and every statistic of every class.

    Args:
        used: frames that were counted.
        inputs: folders that were read.
    """
    num_classes = len(statistics.score)
    facts = [describe_input(folder)["uses_ground_truth"] for folder in inputs]
    return {
        "things": list(things),
        "stuffs": [index for index in range(num_classes) if index not in things],
        "num_pseudo_classes": num_classes,
        "threshold": settings.threshold if settings.num_things is None else None,
        "num_things": settings.num_things,
        "grad_threshold": settings.grad_threshold,
        "depth_blur": settings.depth_blur,
        "semantic_subdir": settings.semantic_subdir,
        "depth_subdir": settings.depth_subdir,
        "frames": used,
        "descriptions": DESCRIPTIONS,
        "classes": {
            str(index): {name: round(float(getattr(statistics, name)[index]), 5) for name in DESCRIPTIONS}
            for index in range(num_classes)
        },
        "script": SCRIPT,
        "code_version": code_version(),
        "uses_ground_truth": any_ground_truth(facts),
    }


def split_things(source: FrameSource, settings: ThingStuffSettings, run: StatisticRun) -> str:
    """Write which classes are things; returns the table of the statistics and the choice as text.

    Raises:
        NothingFound: no class is a thing, or most frames show no street; the choice is written all the same.
        UserError: missing semantics or depth.
    """
    return _split(run.source(source).frames(), run.root(source), settings, run.num_workers)


def _split(everything: Sequence[Frame], root: Path, settings: ThingStuffSettings, workers: int) -> str:
    frames = evenly_spread(everything, settings.sample)
    semantics = Folder(root, settings.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check `semantic_subdir`")
    told = stated_classes(semantics.directory, settings.num_semantic_classes)
    num_classes = told or count_classes(semantics, frames)
    found = (by_shape if settings.no_depth else _by_depth)(frames, semantics, num_classes, settings, workers)
    target = settings.output_json or semantics.directory / SPLIT_FILE
    noted = {NOTHING_FOUND: found.cause[0]} if found.cause else {}
    write_split(target, {**found.content, **noted, MADE_OF: made_of(semantics, everything)})
    text = f"{found.text}things: {' '.join(map(str, found.content['things'])) or 'none'} -> {target}"
    if found.cause:
        log.info("%s", text)  # of a split that is refused, too, a person sees why
        refuse_nothing(*found.cause, target.parent, frames, found.show, settings.accept_nothing)
    else:
        (target.parent / PICTURE).unlink(missing_ok=True)
    return text


def _by_depth(
    frames: Sequence[Frame], semantics: Folder, num_classes: int, settings: ThingStuffSettings, workers: int
) -> FoundSplit:
    """Choose the things by depth."""
    depths = Folder(semantics.root, settings.depth_subdir, ".npy")
    depths.require(frames, "run pseudo_labels/generate_depth_spidepth.py first")
    settings = settings.for_depth(depth_source(depths.directory))
    assert settings.grad_threshold is not None and settings.depth_blur is not None
    model = ObjectModel(edge=settings.grad_threshold, blur=settings.depth_blur)
    sums, used = gather(frames, GatherSums(semantics, depths, num_classes, model), workers)
    statistics, occurs = statistics_of(sums, used), sums.pixels > 0
    things = choose_things(statistics.score, occurs, settings.threshold, settings.num_things)
    return FoundSplit(
        describe(statistics, things, used, settings, (semantics.directory, depths.directory)),
        f"{table(statistics, things, occurs)}\n",
        _nothing(things, used, len(frames), semantics, depths),
        ShowSeen(semantics, depths, num_classes, model),
    )


def _nothing(
    things: Sequence[int], used: int, count: int, semantics: Folder, depths: Folder
) -> tuple[str, str] | None:
    """Return why a split is worth nothing, and what to do; None where it is worth something.

    Args:
        used: of `count` frames those with a street.
    """
    by_hand = "list the things by hand with `thing_classes` in the next step"
    if used < LEAST_STREETS * count:
        return (
            f"{depths.directory}: {used or 'no'} of {count} frames show a street (depth falling towards the "
            "bottom)",
            f"check the depth maps, or {by_hand}",
        )
    if not things:
        return (
            f"{semantics.directory}: no class is a thing",
            "give a lower `threshold`, `grad_threshold` and `depth_blur` that suit the depth, `num_things`, "
            f"or {by_hand}",
        )
    return None


@dataclass(frozen=True)
class ShowSeen:
    """Pictures of what a split was made of: image, semantics, depth, and objects that depth shows."""

    semantics: Folder
    depths: Folder
    num_classes: int
    model: ObjectModel

    def __call__(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures of one frame."""
        image, depth = read_image(frame.image), read_depth(self.depths.path(frame))
        semantic = read_semantic(self.semantics.path(frame), self.num_classes)
        pictures = label_pictures(image, semantic, None, self.num_classes)
        further = (depth_to_color(depth), instances_to_color(object_proposals(depth, self.model)))
        return [*pictures, *(fit(picture, image) for picture in further)]


def required_things(
    source: FrameSource,
    semantics: Folder,
    choice: ThingChoice,
    run: ShardRun,
    depth_subdir: str = DEPTH_FOLDER,
) -> tuple[int, ...]:
    """Return the thing classes of semantics; where nothing tells them, decide by depth and keep the choice.

    The choice is that of `classify_stuff_things.py` with its defaults, made of all frames that have semantics
    and depth (those of train, if there are any), whatever the shard; of several shards one makes it.

    Args:
        source: the frames of the step.
        choice: what the user says of things.
        depth_subdir: folder of the depth.

    Raises:
        NothingFound: no class is a thing, and that is not accepted.
        UserError: nothing tells, and there is no depth to decide by.
    """
    if find_things(semantics, choice.thing_classes, choice.split_json) is None:
        _make_split(source, semantics, run, depth_subdir, choice.accept_nothing)
    return thing_classes(semantics, choice.thing_classes, choice.split_json, choice.accept_nothing)


def _make_split(
    source: FrameSource, semantics: Folder, run: ShardRun, depth_subdir: str, accepted: bool
) -> None:
    path, depths = semantics.directory / SPLIT_FILE, Folder(semantics.root, depth_subdir, ".npy")
    frames = _split_frames(source, semantics, depths)
    if not frames:
        raise UserError(
            f"{path}: no such file, and {depths.directory} holds no depth to make it of; run "
            "pseudo_labels/generate_depth_spidepth.py, then pseudo_labels/classify_stuff_things.py "
            f"`semantic_subdir` {semantics.name} `depth_subdir` {depth_subdir}, or give `thing_classes`"
        )
    settings = ThingStuffSettings(
        semantic_subdir=semantics.name, depth_subdir=depth_subdir, accept_nothing=accepted
    )
    with made_once(path, run.run_id, keep=True) as needed:
        if needed:
            log.info("%s: missing; made of %s with the defaults of %s.py", path, depths.name, SCRIPT)
            # The choice alone: the table has a row for each of 300 clusters, and the file holds it.
            log.info("%s", _split(frames, semantics.root, settings, run.num_workers).splitlines()[-1])


def _split_frames(source: FrameSource, semantics: Folder, depths: Folder) -> list[Frame]:
    """Return the frames that a split is made of: all that have semantics and depth, of train if any."""
    for split in dict.fromkeys(("train", source.split, "all")):
        try:
            frames = replace(source.of_split(split), max_images=None).frames()
        except UserError:
            continue  # the data set has no such split
        found = [f for f in frames if semantics.path(f).is_file() and depths.path(f).is_file()]
        if found:
            return found
    return []
