"""Paired bootstrap: against a slow loop over draws, and properties that any interval must have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.errors import UserError
from cups.metrics import PanopticQualitySemanticMatching, semantic_quality
from cups.metrics.bootstrap import METRICS, Difference, draws_of, mean_differences, paired_differences
from cups.metrics.protocol import VOID_RULES, VoidRule
from cups.metrics.scored_rows import ScoredRows

STUFFS, THINGS, CLUSTERS, VOID = (0, 1, 2), (3, 4), 7, 255
NAMES = ("road", "sky", "wall", "car", "person")
by_rule = pytest.mark.parametrize("rule", VOID_RULES)
few = settings(max_examples=8)
seeds = st.integers(0, 10**6)


def image_rows(seed: int, quality: float) -> np.ndarray:
    """Rows of an image: segments of the ground truth, each met by its own cluster with some luck."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(1, int(rng.integers(3, 9))):
        target = VOID if rng.random() < 0.1 else int(rng.integers(0, 5))
        cluster = target if target != VOID and rng.random() < quality else int(rng.integers(0, CLUSTERS))
        cluster = VOID if rng.random() < 0.1 else cluster
        number = 0 if rng.random() < 0.1 else number
        area, share = int(rng.integers(10, 400)), rng.uniform(0.3, 1)
        rows.append((cluster, number, target, number, int(area * share) + 1))
        rows.append(
            (int(rng.integers(0, CLUSTERS)), number + 50, target, number, int(area * (1 - share)) + 1)
        )
    return np.array(rows, dtype=np.int32)


def metric_of(images: Sequence[np.ndarray]) -> PanopticQualitySemanticMatching:
    metric = PanopticQualitySemanticMatching(THINGS, STUFFS, CLUSTERS, void=VOID)
    for rows in images:
        metric.update_rows(rows)
    return metric


def scored(images: Sequence[np.ndarray], names: Sequence[str] | None = None) -> ScoredRows:
    metric = metric_of(images)
    names = names or [f"image_{index}" for index in range(len(images))]
    return metric.scored_rows(names, NAMES, metric.compute_all())


def same_truth(first: np.ndarray, seed: int, quality: float) -> np.ndarray:
    """Another prediction of the same ground truth: clusters drawn again."""
    rng, rows = np.random.default_rng(seed), first.copy()
    right = (rng.random(len(rows)) < quality) & (rows[:, 2] != VOID)
    rows[:, 0] = np.where(right, rows[:, 2], rng.integers(0, CLUSTERS, len(rows)))
    rows[rng.random(len(rows)) < 0.1, 0] = VOID
    return rows


def two(seed: int, images: int, quality: float = 0.8) -> tuple[list[np.ndarray], list[np.ndarray]]:
    first = [image_rows(seed + 1000 * index, 0.6) for index in range(images)]
    return first, [same_truth(rows, seed + index, quality) for index, rows in enumerate(first)]


def slow_scores(images: Sequence[np.ndarray], whole: ScoredRows, rule: VoidRule) -> dict[str, np.ndarray]:
    """The metric itself on a choice of images, under the matching over all of them."""
    metric = metric_of(images)
    values = metric.compute_all(whole.panoptic[rule])[rule]
    rows = np.concatenate(images)
    confusion = np.zeros((CLUSTERS + 1, 5), dtype=np.int64)
    valid = rows[:, 2] != VOID
    cluster = np.where(rows[:, 0] == VOID, CLUSTERS, rows[:, 0])
    np.add.at(confusion, (cluster[valid], rows[valid, 2]), rows[valid, 4])
    miou = semantic_quality(confusion, whole.semantic[rule], void_rule=rule).miou
    scores = {name: float(values[name]) for name in METRICS[:3]} | {"miou": miou}
    return {name: np.array(value) for name, value in scores.items()} | {
        "per class": values["pq_per_class"].numpy()
    }


@by_rule
@given(seed=seeds)
@few
def test_paired_differences__equal_those_of_a_slow_loop(rule: VoidRule, seed: int) -> None:
    images, draws = 6, 8
    both = two(seed, images)
    wholes = [scored(part) for part in both]
    found = paired_differences(*wholes, rule, draws=draws, level=0.5)
    gains: dict[str, list[float]] = {name: [] for name in METRICS}
    for counts in draws_of(images, draws).astype(int):
        chosen = np.repeat(np.arange(images), counts)
        one, other = (
            slow_scores([part[i] for i in chosen], whole, rule)
            for part, whole in zip(both, wholes, strict=True)
        )
        for name in METRICS:
            gains[name].append(float(other[name] - one[name]))
    everything = [slow_scores(part, whole, rule) for part, whole in zip(both, wholes, strict=True)]
    for name in METRICS:
        known = [gain for gain in gains[name] if gain == gain]
        low, high = np.quantile(known, (0.25, 0.75)) if known else (np.nan, np.nan)
        got = found[name]
        expected = [float(part[name]) for part in everything] + [float(low), float(high)]
        assert [got.first, got.second, got.low, got.high] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    for index, name in enumerate(NAMES):
        got = found[f"pq {name}"]
        if got.first == got.first:
            assert got.first == pytest.approx(float(everything[0]["per class"][index]), abs=1e-12)
            assert got.second == pytest.approx(float(everything[1]["per class"][index]), abs=1e-12)


@by_rule
def test_paired_differences__of_the_same_prediction_are_exactly_zero(rule: VoidRule) -> None:
    """In another order and under other folders, too."""
    images, _ = two(0, 12)
    names = [f"city/frame_{index}" for index in range(12)]
    one = scored(images, names)
    other = scored(images[::-1], [f"val/{name}" for name in names[::-1]])
    for got in paired_differences(one, other, rule, draws=200).values():
        assert got.first != got.first or (got.gain, got.low, got.high, got.sign) == (0, 0, 0, 0)
    assert paired_differences(one, other, rule)["pq"].first > 0.1


@given(seed=seeds)
@few
def test_paired_differences__the_interval_holds_the_difference_and_turns_with_it(seed: int) -> None:
    one, other = (scored(part) for part in two(seed, 40))
    there, back = (paired_differences(*pair, draws=300) for pair in ((one, other), (other, one)))
    for name in METRICS:
        got = there[name]
        assert got.low <= got.gain <= got.high and got.images == 40
        assert back[name].gain == -got.gain
        assert (back[name].low, back[name].high) == pytest.approx((-got.high, -got.low), abs=1e-12)


def test_paired_differences__more_images_tell_more() -> None:
    widths = []
    for images in (20, 320):
        got = paired_differences(*(scored(part) for part in two(3, images)))["pq"]
        widths.append(got.high - got.low)
    # Sixteen times the images: about a quarter of the width.
    assert 0.15 * widths[0] < widths[1] < 0.45 * widths[0]


def test_paired_differences__are_the_same_each_time_and_quick() -> None:
    one, other = (scored(part) for part in two(5, 150))
    start = time.process_time()
    first = paired_differences(one, other)
    assert time.process_time() - start < 1
    assert paired_differences(one, other) == first != paired_differences(one, other, seed=1)


def test_paired_differences__a_class_that_nobody_meets_is_nan() -> None:
    both = [[rows[rows[:, 2] != 4] for rows in part] for part in two(1, 8)]
    with_car_alone = paired_differences(*(scored(part) for part in both), draws=20)
    nothing = with_car_alone["pq person"]
    assert nothing.first != nothing.first and nothing.low != nothing.low and nothing.sign == 0
    assert with_car_alone["pq_things"].first == with_car_alone["pq car"].first


def test_paired_differences__other_images_classes_or_ground_truth() -> None:
    images, others = two(2, 4)
    one = scored(images)
    with pytest.raises(UserError, match=r"other images: image_3 \(and 0 more\) in the first alone"):
        paired_differences(one, scored(others[:3]))
    with pytest.raises(UserError, match=r"other images: c \(and 0 more\) in the second alone"):
        paired_differences(scored(images[:2], ["a", "b"]), scored(others[:3], ["a", "b", "c"]))
    with pytest.raises(UserError, match="two scored images are called a"):
        paired_differences(scored(images[:2], ["a", "a"]), scored(others[:2], ["a", "b"]))
    renamed = replace(one, class_names=np.array(["road", "sky", "wall", "car", "cow"]))
    with pytest.raises(UserError, match="evaluate both with the same classes"):
        paired_differences(one, renamed)
    larger = replace(one, rows=one.rows * np.array([1, 1, 1, 1, 4], dtype=np.int32))
    with pytest.raises(UserError, match=r"the ground truth of image_0 \(and 3 more\) differs"):
        paired_differences(one, larger)


def test_paired_differences__names_that_agree_in_their_ends_alone_stay_apart() -> None:
    images, others = two(4, 2)
    names = ["a/1", "b/1"]
    turned = paired_differences(scored(images, names), scored(others[::-1], names[::-1]))
    same = paired_differences(scored(images, names), scored(others, names))
    assert [turned[name] for name in ("pq", "miou")] == [same[name] for name in ("pq", "miou")]


def test_mean_differences__draw_the_same_images_for_all_runs() -> None:
    """A gain that another run loses on the same images is none, however it spreads over them."""
    images, others = two(2, 30)
    names = [f"image_{index}" for index in range(30)]
    one, other = scored(images, names), scored(others, names)
    turned = scored(images[::-1], names[::-1]), scored(others[::-1], names[::-1])
    alone = paired_differences(one, other)
    assert alone["pq"].low < alone["pq"].high
    for name, got in mean_differences([(one, other), turned]).items():
        expected = alone[name]
        for field in ("first", "second", "low", "high"):
            assert getattr(got, field) == pytest.approx(getattr(expected, field), nan_ok=True)
        assert got.images == 30
    for got in mean_differences([(one, other), turned[::-1]]).values():
        assert got.gain != got.gain or (got.gain, got.low, got.high) == pytest.approx((0, 0, 0))


def test_mean_differences__are_means_over_the_runs_draw_by_draw() -> None:
    images, draws = 6, 8
    truth, better = two(3, images)
    runs = [(truth, better), (better, [same_truth(rows, 7, 0.9) for rows in truth])]
    wholes = [tuple(scored(part) for part in run) for run in runs]
    gains = []
    for counts in draws_of(images, draws).astype(int):
        chosen = np.repeat(np.arange(images), counts)
        scores = [
            [float(slow_scores([part[i] for i in chosen], whole, "standard")["pq"]) for part, whole in both]
            for both in (zip(run, whole, strict=True) for run, whole in zip(runs, wholes, strict=True))
        ]
        gains.append(np.mean([second - first for first, second in scores]))
    got = mean_differences([(first, second) for first, second in wholes], draws=draws, level=0.5)["pq"]
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(gains, (0.25, 0.75))), abs=1e-12)
    assert got.low != got.high


def test_mean_differences__runs_of_other_images_are_refused() -> None:
    images, others = two(1, 4)
    one, other = scored(images), scored(others)
    with pytest.raises(UserError, match="other images"):
        mean_differences([(one, other), (scored(images[:3]), scored(others[:3]))])


def test_draws_of__each_draw_has_as_many_images() -> None:
    draws = draws_of(7, 50)
    assert draws.shape == (50, 7) and (draws.sum(axis=1) == 7).all() and (draws == 0).any()


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.2, 1), (-0.1, 0.2, 0), (-0.2, -0.1, -1), (0, 0, 0)]
)
def test_difference__sign_is_that_of_the_whole_interval(low: float, high: float, sign: int) -> None:
    got = Difference(0.2, 0.25, low, high, 10)
    assert got.sign == sign and got.gain == pytest.approx(0.05)
    assert Difference(0.2, 0.25, 0.012, 0.1, 10).interval() == "+1.2 to +10.0"
