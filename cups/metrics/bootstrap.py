"""How much of a difference between two predictions is the choice of images: the paired bootstrap.

Images are drawn with replacement, the same ones for both predictions, again and again; the spread of the
difference over the draws is its interval. Source: Efron and Tibshirani, "An Introduction to the Bootstrap"
(1993), chapter 13, percentile intervals; in pairs, because a hard image is hard for both.

The matching of clusters to classes stays the one over all images. So the interval is that of the reported
number, whose clusters have these names; and a draw is a sum of counts, where a matching of its own would
need all segments again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from cups.errors import UserError
from cups.metrics.protocol import VoidRule
from cups.metrics.scored_rows import ScoredRows
from cups.metrics.segments import PanopticCounts, panoptic_counts, segment_table

DRAWS = 1000
LEVEL = 0.9
SEED = 0
METRICS = ("pq", "pq_things", "pq_stuff", "miou")
"""Means over classes that `scores_of` gives; `pq_per_class` stands beside them."""


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Counts of N images, from whose sums the scores of any choice of images follow; each (N, C) float64.

    Attributes:
        iou, true_positives, false_positives, false_negatives: of segments, see `PanopticCounts`.
        hit, predicted, actual: pixels: right, predicted and true ones of each class.
        is_thing, averaged: (C,) bool.
    """

    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    hit: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    is_thing: np.ndarray
    averaged: np.ndarray

    def take(self, order: np.ndarray) -> ImageCounts:
        """Return the counts of the images in another order."""
        by_image = (field.name for field in fields(self) if field.name not in ("is_thing", "averaged"))
        return replace(self, **{name: getattr(self, name)[order] for name in by_image})


@dataclass(frozen=True)
class Difference:
    """A measure of two predictions on the same images; shares in 0-1, nan where nothing was measured.

    Attributes:
        first, second: the measure of each, over all images.
        low, high: interval of `second - first`.
        images: N.
        level: share of the draws inside the interval.
    """

    first: float
    second: float
    low: float
    high: float
    images: int
    level: float = LEVEL

    @property
    def gain(self) -> float:
        """What the second has more than the first."""
        return self.second - self.first

    @property
    def sign(self) -> int:
        """1 where the interval lies above 0, -1 where it lies below, else 0: the images do not tell."""
        return int(self.low > 0) - int(self.high < 0)

    def interval(self, digits: int = 1) -> str:
        """Return "+0.2 to +1.3", in points of 100."""
        return f"{100 * self.low:+.{digits}f} to {100 * self.high:+.{digits}f}"


def image_counts(scored: ScoredRows, void_rule: VoidRule) -> ImageCounts:
    """Return the counts of each image under the matching over all images."""
    images, classes = len(scored.lengths), len(scored.class_ids)
    image, target = scored.image, scored.target_class
    pred = scored.pred_class(scored.panoptic[void_rule])

    def own(index: np.ndarray) -> np.ndarray:
        """Give each image classes of its own: no segment spans two images, so nothing else changes."""
        return np.where(index < 0, -1, image * classes + index)

    table = segment_table(scored.rows, image, own(pred), own(target), np.tile(scored.is_thing, images))
    segments = panoptic_counts(table, images * classes, void_rule)
    named = scored.pred_class(scored.semantic[void_rule])
    valid = target >= 0
    hit, predicted, actual = (
        _pixels(scored, own(index), chosen & (index >= 0))
        for index, chosen in (
            (named, valid & (named == target)),
            (named, valid),
            (target, valid if void_rule == "standard" else valid & (named >= 0)),
        )
    )
    names = ("iou", "true_positives", "false_positives", "false_negatives")
    counts = {name: getattr(segments, name).astype(float).reshape(images, classes) for name in names}
    return ImageCounts(
        **counts,
        hit=hit,
        predicted=predicted,
        actual=actual,
        is_thing=scored.is_thing,
        averaged=scored.averaged,
    )


def _pixels(scored: ScoredRows, index: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return (N, C) pixels of the chosen rows by image and class."""
    size = (len(scored.lengths), len(scored.class_ids))
    sums = np.bincount(index[chosen], weights=scored.rows[chosen, 4], minlength=size[0] * size[1])
    return sums.reshape(size)


def scores_of(counts: ImageCounts, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of D choices of images.

    Args:
        counts: of N images.
        weights: (D, N), how often each choice holds each image.

    Returns:
        `METRICS`: (D,), nan where no class of the mean occurs; `pq_per_class`: (D, C), nan for a class that
        does not occur.
    """
    segments = PanopticCounts(
        weights @ counts.iou,
        weights @ counts.true_positives,
        weights @ counts.false_positives,
        weights @ counts.false_negatives,
    )
    quality, _, _ = segments.quality()
    occurs = (segments.weight > 0) & counts.averaged
    hit, predicted, actual = (weights @ part for part in (counts.hit, counts.predicted, counts.actual))
    union = predicted + actual - hit
    return {
        "pq": _mean(quality, occurs),
        "pq_things": _mean(quality, occurs & counts.is_thing),
        "pq_stuff": _mean(quality, occurs & ~counts.is_thing),
        "miou": _mean(hit / np.maximum(union, 1), (union > 0) & counts.averaged),
        "pq_per_class": np.where(segments.weight > 0, quality, np.nan),
    }


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean of the chosen values of each row of (D, C), nan where none is chosen."""
    count = chosen.sum(axis=1)
    return np.where(count > 0, (values * chosen).sum(axis=1) / np.maximum(count, 1), np.nan)


def draws_of(images: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Return (D, N) float64: how often each draw of N images with replacement holds each image."""
    chosen = np.random.default_rng(seed).integers(0, images, (draws, images))
    cells = chosen + images * np.arange(draws)[:, None]
    return np.bincount(cells.ravel(), minlength=draws * images).reshape(draws, images).astype(float)


def paired_differences(
    first: ScoredRows,
    second: ScoredRows,
    void_rule: VoidRule = "standard",
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = SEED,
) -> dict[str, Difference]:
    """Return what `second` has more than `first`, with the interval over draws of images.

    A draw without any class of a mean does not count for it; a class that one prediction alone meets has PQ 0
    for the other.

    Args:
        draws: choices of images, the same for both.
        level: share of the draws inside the interval.

    Returns:
        For each of `METRICS`, and "pq NAME" for each class.

    Raises:
        UserError: other images, classes or ground truth.
    """
    return mean_differences([(first, second)], void_rule, draws=draws, level=level, seed=seed)


def mean_differences(
    pairs: Sequence[tuple[ScoredRows, ScoredRows]],
    void_rule: VoidRule = "standard",
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = SEED,
) -> dict[str, Difference]:
    """Return the mean over runs of what the second of each pair has more than its first.

    A draw is one choice of images, the same for all runs: runs that are scored on the same images do not make
    more images of them. How far the runs lie apart is not in the interval.

    Args:
        pairs: two predictions of each run; all of the same images.
        draws, level, seed: see `paired_differences`.

    Returns:
        As `paired_differences`; `first` and `second` are means over the runs.

    Raises:
        UserError: other images, classes or ground truth.
    """
    reference = pairs[0][0]
    images = len(reference.lengths)
    choices = np.concatenate((np.ones((1, images)), draws_of(images, draws, seed)))
    runs = [[_scores_on(reference, part, void_rule, choices) for part in pair] for pair in pairs]
    measures = {name: [[part[name] for part in pair] for pair in runs] for name in METRICS}
    for index, name in enumerate(reference.class_names.tolist()):
        measures[f"pq {name}"] = [
            [*_present(*(part["pq_per_class"][:, index] for part in pair))] for pair in runs
        ]
    result = {}
    for name, values in measures.items():
        one, other = np.mean(values, axis=0)
        interval = _percentiles(other[1:] - one[1:], level)
        result[name] = Difference(float(one[0]), float(other[0]), *interval, images, level)
    return result


def _scores_on(
    reference: ScoredRows, scored: ScoredRows, void_rule: VoidRule, choices: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the scores of choices of the images of `reference`."""
    order = _same_images(reference.names.tolist(), scored.names.tolist())
    if (reference.class_names.tolist(), reference.class_ids.tolist()) != (
        scored.class_names.tolist(),
        scored.class_ids.tolist(),
    ):
        raise UserError("the two results have other classes; evaluate both with the same classes")
    _check_ground_truth(reference, scored, order)
    return scores_of(image_counts(scored, void_rule).take(order), choices)


def _present(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return both as (2, D), with 0 for nan where only one is nan."""
    both = np.stack((one, other))
    return np.where(np.isnan(both) & ~np.isnan(both).all(axis=0), 0.0, both)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _same_images(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Return the position in `second` of each image of `first`; folders before names do not count.

    Raises:
        UserError: a name that comes twice, or other images.
    """
    ends = [name.rpartition("/")[2] for name in first], [name.rpartition("/")[2] for name in second]
    plain = all(len(set(names)) == len(names) for names in ends)
    one, other = ends if plain else (list(first), list(second))
    for names in (one, other):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise UserError(f"two scored images are called {twice[0]}; give them names of their own")
    alone = [(name, "first", "second") for name in sorted(set(one) - set(other))]
    alone += [(name, "second", "first") for name in sorted(set(other) - set(one))]
    if alone:
        name, has, lacks = alone[0]
        raise UserError(
            f"the two results are of other images: {name} (and {len(alone) - 1} more) in the {has} alone, "
            f"not in the {lacks}; evaluate both on the same images"
        )
    place = {name: index for index, name in enumerate(other)}
    return np.array([place[name] for name in one], dtype=np.int64)


def _check_ground_truth(first: ScoredRows, second: ScoredRows, order: np.ndarray) -> None:
    """Refuse results whose ground truth has other pixels.

    Raises:
        UserError: naming the first image.
    """
    mine, theirs = (_pixels(s, _cells(s), s.target_class >= 0) for s in (first, second))
    wrong = np.flatnonzero((mine != theirs[order]).any(axis=1))
    if len(wrong):
        raise UserError(
            f"the ground truth of {first.names[wrong[0]]} (and {len(wrong) - 1} more) differs between the "
            "two results; evaluate both at the same size, against the same ground truth"
        )


def _cells(scored: ScoredRows) -> np.ndarray:
    return scored.image * len(scored.class_ids) + scored.target_class
