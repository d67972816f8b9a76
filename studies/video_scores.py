"""Scores of the video report: labels of single frames, their objects numbered in three ways."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from cups.evaluation.folders import Truth, open_truth, pair
from cups.io.file_names import IMAGE_SUFFIX
from cups.io.files import write_json, write_text
from cups.io.markdown import markdown_table, percent
from cups.io.png import read_image, write_png
from cups.io.provenance import code_version
from cups.labels.label_folders import open_labels
from cups.labels.pseudo_classes import Guess, open_guess
from cups.metrics import VideoQualitySemanticMatching
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, class_set, void_value
from cups.video.clips import clips_of
from cups.video.tracks import Objects, TrackState, follow
from cups.visualization import figure_sheet, instances_to_color
from studies.measure import StepRecord, machine_line, steps_table

LEAST_OVERLAP = 0.15
"""IoU from which masks of two frames are one object to the matching frame by frame."""
KEYS = {"stq": "STQ", "aq": "AQ", "stq_sq": "SQ", "vpq": "VPQ", "vpq_things": "VPQ things", "pq": "PQ"}
SHOWN = 6
MISSING, SHIFT = 0.15, 2
"""Share of the objects, and pixels, by which true masks are disturbed."""
Way = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(image, ids (H, W) 0 none 1..D, category (D,)) -> category and number (D,) of each object."""


def as_counted(image: np.ndarray, ids: np.ndarray, category: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the objects of each frame 1, 2, ... by falling area, as labels and predictions of frames do."""
    area = np.bincount(ids.ravel(), minlength=len(category) + 1)[1:]
    number = np.empty(len(category), np.int64)
    number[np.argsort(-area, kind="stable")] = np.arange(1, len(category) + 1)
    return category, number


class FrameByFrame:
    """Gives an object the number of the one that it overlaps most in the frame before (Hungarian, IoU)."""

    def __init__(self) -> None:
        self.ids, self.numbers, self.last = np.zeros((1, 1), np.int64), np.zeros(0, np.int64), 0

    def __call__(
        self, image: np.ndarray, ids: np.ndarray, category: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = len(self.numbers) + 1, len(category) + 1
        before = np.broadcast_to(self.ids, ids.shape) if self.ids.size == 1 else self.ids
        joint = before.astype(np.int64) * columns + ids
        counts = np.bincount(joint.ravel(), minlength=rows * columns).reshape(rows, columns)
        union = counts.sum(axis=0, keepdims=True) + counts.sum(axis=1, keepdims=True) - counts
        overlap = (counts / np.maximum(union, 1))[1:, 1:]
        number = np.zeros(len(category), np.int64)
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= LEAST_OVERLAP:
                number[column] = self.numbers[row]
        new = number == 0
        number[new] = self.last + np.arange(1, new.sum() + 1)
        self.last += int(new.sum())
        self.ids, self.numbers = ids, number
        return category, number


class Tracked:
    """Follows objects as `predict.py` does, see `cups.video.tracks`."""

    def __init__(self, categories: int, size: tuple[int, int]) -> None:
        self.state = TrackState.empty(size, categories)

    def __call__(
        self, image: np.ndarray, ids: np.ndarray, category: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.state, rows = follow(self.state, image, Objects(ids, category, np.ones(len(category))))
        return self.state.votes[rows].argmax(axis=1), self.state.number[rows]


WAYS = ("numbers of each frame", "overlap with the frame before", "tracker")


def ways(categories: int, size: tuple[int, int]) -> dict[str, Way]:
    """Return the ways to number the objects of one clip."""
    return dict(zip(WAYS, (as_counted, FrameByFrame(), Tracked(categories, size)), strict=True))


def objects_of(panoptic: PanopticMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (H, W) ids 0 none, 1..D of a map's objects, the row of each and its category, (D,) each."""
    rows = np.flatnonzero((panoptic.instance > 0) & (panoptic.areas > 0))
    table = np.zeros(len(panoptic.category), np.int32)
    table[rows] = np.arange(1, len(rows) + 1)
    return table[panoptic.ids], rows, panoptic.category[rows]


def renumbered(
    panoptic: PanopticMap, rows: np.ndarray, category: np.ndarray, number: np.ndarray
) -> PanopticMap:
    """Return a map with other categories and numbers of its objects."""
    categories, instances = panoptic.category.copy(), panoptic.instance.copy()
    categories[rows], instances[rows] = category, number
    return replace(panoptic, category=categories, instance=instances)


@dataclass(frozen=True)
class Disturbed:
    """True masks as a detector might give them: some objects missing, all masks a little beside their place.

    Attributes:
        truth: the masks.
        names: name in the ground truth of each frame.
    """

    truth: Truth
    names: dict[str, str]

    @property
    def total(self) -> int:
        """Number of classes."""
        return self.truth.classes.num_classes

    @property
    def things(self) -> tuple[int, ...]:
        """Classes with objects."""
        return tuple(self.truth.classes.things)

    def read(self, name: str) -> PanopticMap:
        """Return the disturbed masks of a frame, always the same; what is missing is void."""
        panoptic = self.truth.read(self.names[name])
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        gone = (panoptic.instance > 0) & (rng.random(len(panoptic.instance)) < MISSING)
        category = np.where(gone, VOID, panoptic.category)
        instance = np.where(gone, 0, panoptic.instance)
        shift = rng.integers(-SHIFT, SHIFT + 1, 2)
        return PanopticMap(np.roll(panoptic.ids, shift, axis=(0, 1)), category, instance)


def score_ways(
    truth: Truth, guess: Guess | Disturbed, images: dict[str, Path], names: dict[str, str]
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Number the objects of all clips in each way; return the scores, and a picture of the first clip.

    Args:
        images: image file of each frame of the prediction.
        names: name in the ground truth of each frame of the prediction.
    """
    classes, void = truth.classes, void_value(guess.total)
    stuff = [index for index in range(guess.total) if index not in guess.things]
    metrics = {
        way: VideoQualitySemanticMatching(
            classes.things, classes.stuffs, guess.total, guess.things, stuff, void=void
        )
        for way in WAYS
    }
    panels: list[list[np.ndarray]] = []
    clips = clips_of([(name, images[name]) for name in names])
    for number, clip in enumerate(clips):
        trackers: dict[str, Way] = {}
        for position, name in enumerate(clip.names):
            panoptic, image = guess.read(name), read_image(images[name])
            target = truth.read(names[name]).with_void(VOID, void)
            trackers = trackers or ways(guess.total, panoptic.shape)
            ids, rows, category = objects_of(panoptic)
            row = [image]
            for way, assign in trackers.items():
                changed = renumbered(panoptic, rows, *assign(image, ids, category))
                metrics[way].update_frames([changed.resized(target.shape)], [target], number, [position])
                row.append(instances_to_color(changed.instances))
            if number == 0 and position % max(1, len(clip.names) // SHOWN) == 0:
                panels.append(row)
    scores = {
        way: {key: float(value) for key, value in metric.compute().items() if value.ndim == 0}
        for way, metric in metrics.items()
    }
    return scores, figure_sheet(["image", *WAYS], panels)


def write_report(output: Path, labels: str, records: Sequence[StepRecord]) -> str:
    """Score the labels below `output`, write `report.md`, `scores.json` and `clip.png`; return the report."""
    root = output / "toy_streets"
    truth = open_truth(open_labels(root / "gtFine"), class_set(19))
    found = open_labels(output / labels)
    pairs = pair(truth.labels, found)
    guess = open_guess(found, truth.classes, "clusters", [name for _, name in pairs.both])
    folder = root / "leftImg8bit"
    files = {path.name.removesuffix(IMAGE_SUFFIX): path for path in sorted(folder.rglob(f"*{IMAGE_SUFFIX}"))}
    names = {other: name for name, other in pairs.both}
    images = {other: files[other.rpartition("/")[2].removesuffix("_leftImg8bit")] for other in names}
    scores, picture = score_ways(truth, guess, images, names)
    write_png(output / "clip.png", picture)
    disturbed, _ = score_ways(truth, Disturbed(truth, names), images, names)
    write_json(output / "scores.json", {"labels": scores, "disturbed truth": disturbed})
    clips = len(clips_of([(name, images[name]) for name in names]))
    text = f"""# Objects followed through toy sequences

{code_version()}. {len(names)} frames in {clips} clips, labelled frame by frame by Stage 1 without any label.
Pseudo-classes are matched to the 19 classes by the Hungarian method, once for each row.

{_table(scores)}

The same with better masks: those of the ground truth, {100 * MISSING:.0f} % of the objects missing in each
frame, and all masks shifted by up to {SHIFT} pixels.

{_table(disturbed)}

STQ, AQ, SQ: segmentation and tracking quality, association, semantics (Weber et al., 2021). VPQ: mean over
windows of 1 to 4 frames (Kim et al., 2020). The masks are the same. The tracker also gives an object the
category that most of its frames say, which changes SQ and PQ.

![The first clip: image, and objects coloured by their numbers](clip.png)

## Time and memory

{steps_table(records)}

{machine_line()}.
"""
    write_text(output / "report.md", text)
    return text


def _table(scores: dict[str, dict[str, float]]) -> str:
    """Return the Markdown table of the ways, and the sentence that compares the last two."""
    rows = [(way, *(percent(values[key]) for key in KEYS)) for way, values in scores.items()]
    gain = 100 * (scores[WAYS[2]]["stq"] - scores[WAYS[1]]["stq"])
    verdict = "above" if gain > 0 else "not above"
    return (
        f"{markdown_table(rows, ('numbers of objects', *KEYS.values()))}\n\n"
        f"STQ of the tracker is {verdict} that of matching frame by frame: {gain:+.1f} points."
    )
