"""Scores of the video report: masks of single frames, their objects numbered in several ways."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from cups.evaluation.folders import Truth
from cups.io.png import read_image
from cups.labels.pseudo_classes import Guess
from cups.metrics import VideoQualitySemanticMatching
from cups.metrics.bootstrap import LEVEL, Difference
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, void_value
from cups.video.clips import Clip
from cups.visualization import instances_to_color
from studies.video_ways import WAYS, FrameObjects, Way, objects_of, renumbered, ways

MISSING, SHIFT = 0.15, 2
"""Share of the objects, and pixels, by which true masks are disturbed."""


@dataclass(frozen=True)
class Disturbed:
    """True masks as a detector might give them: some objects missing, all masks a little beside their place.

    Attributes:
        truth: the masks.
        names: name in the ground truth of each frame.
    """

    truth: Truth
    names: Mapping[str, str]

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


@dataclass(frozen=True, eq=False)
class WayScores:
    """What one way to number objects has.

    Attributes:
        total: scores of all clips, 0-1.
        stq: of each clip by itself, pseudo-classes matched as in `total`.
    """

    total: dict[str, float]
    stq: list[float]


@dataclass(frozen=True)
class Filmed:
    """Clips with the masks of their frames.

    Attributes:
        truth, guess: ground truth and masks.
        clips: of the masks.
        images: image file of each frame.
        names: name in the ground truth of each frame.
    """

    truth: Truth
    guess: Guess | Disturbed
    clips: Sequence[Clip]
    images: Mapping[str, Path]
    names: Mapping[str, str]

    @property
    def void(self) -> int:
        """Category of void in the maps."""
        return void_value(self.guess.total)

    def metric(self) -> VideoQualitySemanticMatching:
        """Return an empty metric for these masks."""
        classes, guess = self.truth.classes, self.guess
        stuff = [index for index in range(guess.total) if index not in guess.things]
        return VideoQualitySemanticMatching(
            classes.things, classes.stuffs, guess.total, guess.things, stuff, void=self.void
        )

    def score(self) -> dict[str, WayScores]:
        """Number the objects of all clips in each way, and score them."""
        whole = {way: self.metric() for way in WAYS}
        parts = {way: [self.metric() for _ in self.clips] for way in WAYS}
        for number, clip in enumerate(self.clips):
            for place, (target, maps) in enumerate(self._numbered(clip)):
                for way, panoptic in maps.items():
                    for metric in (whole[way], parts[way][number]):
                        metric.update_frames([panoptic], [target], number, [place])
        return {way: _way_scores(whole[way], parts[way], self.void) for way in WAYS}

    def pictures(self, clip: Clip, count: int, drawn: Sequence[str] = WAYS) -> list[list[np.ndarray]]:
        """Return image, and objects coloured by their numbers in the drawn ways, of some frames of a clip."""
        step = max(1, len(clip.names) // count)
        return [
            [read_image(self.images[name]), *(instances_to_color(maps[way].instances) for way in drawn)]
            for place, (name, (_, maps)) in enumerate(zip(clip.names, self._numbered(clip), strict=True))
            if place % step == 0
        ]

    def _numbered(self, clip: Clip) -> Iterator[tuple[PanopticMap, dict[str, PanopticMap]]]:
        """Yield the true map of each frame, and its masks numbered in each way."""
        made: dict[str, Way] = {}
        for name in clip.names:
            panoptic, image = self.guess.read(name), read_image(self.images[name])
            target = self.truth.read(self.names[name]).with_void(VOID, self.void)
            made = made or ways(self.guess.total, panoptic.shape)
            ids, rows, category = objects_of(panoptic)
            frame = FrameObjects(image, ids, category, target.resized(panoptic.shape))
            maps = {way: renumbered(panoptic, rows, *assign(frame)) for way, assign in made.items()}
            yield target, {way: one.resized(target.shape) for way, one in maps.items()}


def _way_scores(
    whole: VideoQualitySemanticMatching, parts: Sequence[VideoQualitySemanticMatching], void: int
) -> WayScores:
    scores = whole.compute_all()["standard"]
    names = scores["assignment"].numpy()
    matched = np.where(names == void, -1, names)
    clips = [float(part.compute_all(matched)["standard"]["stq"]) for part in parts]
    return WayScores({key: float(value) for key, value in scores.items() if value.ndim == 0}, clips)


def gain_of_clips(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return what a second way has more than a first on the mean clip, with Student's interval over clips.

    One clip tells no interval: its ends are nan.
    """
    one, two = np.array(first), np.array(second)
    gains, count = two - one, len(one)
    error = gains.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * error) if count > 1 else float("nan")
    mean = float(gains.mean())
    return Difference(float(one.mean()), float(two.mean()), mean - half, mean + half, count)
