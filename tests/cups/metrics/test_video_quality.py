"""STQ and VPQ against literal implementations of the papers' definitions, and examples by hand."""

from __future__ import annotations

from collections import defaultdict
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.metrics import PanopticQualitySemanticMatching, VideoQualitySemanticMatching, tubes
from cups.metrics.protocol import VOID_RULES

VOID = 255
STUFFS, THINGS = (0, 1), (2, 3)
repeatable = settings(derandomize=True, deadline=None, max_examples=12)
seeds = st.integers(0, 10**6)
Segments = dict[tuple[int, int], set[tuple[int, int]]]


def clip(seed: int, frames: int, num_clusters: int = 4) -> np.ndarray:
    """Draw rectangles that move, keep their instance and now and then change their category: (T, H, W, 2)."""
    rng = np.random.default_rng(seed)
    video = np.zeros((frames, 8, 10, 2), dtype=np.int64)
    video[..., 0] = rng.integers(0, 2)
    for instance in range(1, 6):
        category = VOID if rng.random() < 0.15 else int(rng.integers(0, num_clusters))
        top, left = rng.integers(0, 6, 2)
        number = 0 if category == VOID or rng.random() < 0.2 else instance
        for frame in range(frames):
            if rng.random() < 0.2:
                continue
            if rng.random() < 0.1 and category != VOID:
                category = int(rng.integers(0, num_clusters))
            video[frame, top : top + 4, left + frame % 2 : left + 5] = (category, number)
    return video


def guess(truth: np.ndarray, seed: int, num_clusters: int) -> np.ndarray:
    """Return a prediction that shares much with the truth and switches some identities."""
    rng, other = np.random.default_rng(seed), clip(seed + 1, len(truth), num_clusters)
    pred = np.roll(truth, seed % 2, axis=2)
    pred[..., 0][pred[..., 0] != VOID] %= num_clusters
    for frame in range(len(pred)):
        if rng.random() < 0.3:
            pred[frame, ..., 1] = np.where(pred[frame, ..., 1] > 0, pred[frame, ..., 1] % 3 + 1, 0)
        pred[frame, : seed % 4] = other[frame, : seed % 4]
    return pred


def mapped(pred: np.ndarray, assignment: list[int]) -> np.ndarray:
    result = pred.copy()
    result[..., 0] = np.append(assignment, [VOID] * 300)[pred[..., 0]]
    return result


def segments_of(video: np.ndarray, first: int = 0) -> Segments:
    """Return {(class, instance): pixels (frame, place)}; stuff and void have instance 0."""
    found: Segments = defaultdict(set)
    for frame, picture in enumerate(video, start=first):
        for place, (category, instance) in enumerate(picture.reshape(-1, 2).tolist()):
            found[category, instance if category in THINGS else 0].add((frame, place))
    return found


def literal_stq(videos: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return AQ and SQ of mapped clips, pixel by pixel, as Weber et al. (2021) define them."""
    qualities, hit, union = [], defaultdict(int), defaultdict(int)
    for pred, truth in videos:
        targets, preds = segments_of(truth), segments_of(pred)
        crowd = set().union(*(pixels for key, pixels in targets.items() if key[0] in THINGS and key[1] == 0))
        objects = {key: pixels for key, pixels in targets.items() if key[0] in THINGS and key[1] > 0}
        tracks = {key: pixels - crowd for key, pixels in preds.items() if key[0] in THINGS}
        for gt in objects.values():
            total = 0.0
            for track in tracks.values():
                tpa, fpa, fna = len(track & gt), len(track - gt), len(gt - track)
                total += tpa * (tpa / (tpa + fpa + fna)) if tpa else 0.0
            qualities.append(total / len(gt))
        for said, true in zip(pred[..., 0].ravel().tolist(), truth[..., 0].ravel().tolist(), strict=True):
            if true == VOID:
                continue
            hit[true] += said == true
            for label in {said, true} - {VOID}:
                union[label] += 1
    ious = [hit[label] / union[label] for label in union]
    return float(np.mean(qualities)) if qualities else float("nan"), float(np.mean(ious))


def literal_window(preds: Segments, targets: Segments, rule: str) -> list[tuple[str, int, float]]:
    """Return ("tp"|"fp"|"fn", class, IoU) of one window: panoptic quality with tubes for segments."""
    nothing: set[tuple[int, int]] = set()
    pred_void, target_void = preds.get((VOID, 0), nothing), targets.get((VOID, 0), nothing)
    crowds = {key for key in targets if key[0] in THINGS and key[1] == 0} if rule == "standard" else set()
    events, used = [], set()
    for key, target in targets.items():
        free = pred_void if rule == "upstream" else nothing
        if key[0] == VOID or key in crowds:
            continue
        for other, pred in preds.items():
            joined = (pred - target_void) | (target - free)
            if other[0] == key[0] and joined and len(pred & target) / len(joined) > 0.5:
                events.append(("tp", key[0], len(pred & target) / len(joined)))
                used |= {("pred", other), ("target", key)}
        if ("target", key) not in used and len(target & free) <= len(target) / 2:
            events.append(("fn", key[0], 0.0))
    for key, pred in preds.items():
        excused = target_void | (targets[key[0], 0] if (key[0], 0) in crowds else nothing)
        if key[0] != VOID and ("pred", key) not in used and len(pred & excused) <= len(pred) / 2:
            events.append(("fp", key[0], 0.0))
    return events


def literal_vpq(videos: list[tuple[np.ndarray, np.ndarray]], frames: int, rule: str) -> float:
    """Return VPQ of mapped clips for one window length, as Kim et al. (2020) define it."""
    events = []
    for pred, truth in videos:
        for first in range(len(pred) - frames + 1):
            window = slice(first, first + frames)
            events += literal_window(segments_of(pred[window]), segments_of(truth[window]), rule)
    qualities = []
    for label in range(4):
        of_class = [(kind, iou) for kind, category, iou in events if category == label]
        weight = sum(1.0 if kind == "tp" else 0.5 for kind, _ in of_class)
        qualities += [sum(iou for _, iou in of_class) / weight] if weight else []
    return float(np.mean(qualities)) if qualities else float("nan")


def drawn(seed: int, lengths: tuple[int, ...], num_clusters: int) -> list[tuple[np.ndarray, np.ndarray]]:
    truths = [clip(seed + 7 * index, length) for index, length in enumerate(lengths)]
    return [(guess(truth, seed + index, num_clusters), truth) for index, truth in enumerate(truths)]


def metric(num_clusters: int = 4, **options: object) -> VideoQualitySemanticMatching:
    return VideoQualitySemanticMatching(THINGS, STUFFS, num_clusters, **options)


def add(ours: VideoQualitySemanticMatching, videos: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for number, (pred, truth) in enumerate(videos):
        ours.update_frames(torch.from_numpy(pred), torch.from_numpy(truth), number, range(len(pred)))


@repeatable
@given(seeds, st.sampled_from([2, 4, 7]), st.sampled_from(VOID_RULES))
def test_compute__equals_the_literal_definitions(seed: int, num_clusters: int, rule: str) -> None:
    videos = drawn(seed, (5, 3, 1), num_clusters)
    ours = metric(num_clusters, void_rule=rule)
    add(ours, videos)
    scores = ours.compute()
    known = [(mapped(pred, scores["assignment"].tolist()), truth) for pred, truth in videos]
    aq, sq = literal_stq(known)
    np.testing.assert_allclose([scores["aq"], scores["stq_sq"]], [aq, sq], atol=1e-12)
    np.testing.assert_allclose(scores["stq"], sqrt(aq * sq), atol=1e-12)
    windows = [literal_vpq(known, frames, rule) for frames in (1, 2, 3, 4)]
    np.testing.assert_allclose([scores[f"vpq_{frames}"] for frames in (1, 2, 3, 4)], windows, atol=1e-12)
    np.testing.assert_allclose(scores["vpq"], np.mean(windows), atol=1e-12)
    np.testing.assert_allclose(scores["vpq_1"], scores["pq"], atol=1e-12)


def test_compute__panoptic_quality_and_matching_are_those_of_images() -> None:
    videos, ours = drawn(3, (4, 2), 4), metric()
    plain = PanopticQualitySemanticMatching(THINGS, STUFFS, 4)
    add(ours, videos)
    for pred, truth in videos:
        plain.update(torch.from_numpy(pred), torch.from_numpy(truth))
    both = ours.compute(), plain.compute()
    for key, value in both[1].items():
        torch.testing.assert_close(both[0][key], value, equal_nan=True)


def track(*tracks: int, category: int = 0, other: tuple[int, ...] = ()) -> np.ndarray:
    """Return one row of pixels: things of one class with these instances, stuff at the places of `other`."""
    row = np.array([[[category, instance] for instance in tracks]])[None]
    row[0, 0, list(other)] = (1, 0)
    return row


@pytest.mark.parametrize(
    ("truth", "pred", "stq", "aq", "sq"),
    [
        (track(1, 1, 1, 1, 1), track(1, 1, 1, 1, 1), 1.0, 1.0, 1.0),
        (track(1, 1, 1, 1, 1), track(1, 1, 2, 2, 2), 0.72111026, 0.52, 1.0),
        (track(1, 1, 1, 1, 1), track(1, 2, 2, 2, 2), 0.82462113, 0.68, 1.0),
        (track(1, 1, 1, 1, 1), track(1, 2, 3, 4, 5), 0.447213596, 0.2, 1.0),
        (track(1, 1, 1, 1, 1), track(1, 2, 1, 2, 2), 0.72111026, 0.52, 1.0),
        (track(1, 1, 1, 1, 1), track(0, 1, 1, 1, 1, other=(0,)), 0.50596443, 0.64, 0.4),
        # The first pixel is a crowd: no object, but of its class.
        (track(0, 1, 1, 1, 1, 1), track(1, 1, 1, 1, 1, 1), 1.0, 1.0, 1.0),
        (track(0, 1, 1, 1, 1, 1), track(2, 2, 2, 2, 1, 1), 0.72111026, 0.52, 1.0),
        (track(0, 1, 1, 1, 1, 1), track(2, 2, 0, 1, 1, 1, other=(2,)), 0.40824829, 0.4, 5 / 12),
        # The first pixel is stuff.
        (track(0, 1, 1, 1, 1, other=(0,)), track(1, 1, 1, 1, 1), 0.56568542, 0.8, 0.4),
        (track(0, 1, 1, 1, 1, other=(0,)), track(2, 2, 2, 1, 1), 0.42426407, 0.45, 0.4),
        (track(0, 1, 1, 1, 1, other=(0,)), track(2, 2, 0, 1, 1, other=(2,)), 0.3, 0.3, 0.3),
    ],
)
def test_compute__examples_of_the_official_implementation(
    truth: np.ndarray, pred: np.ndarray, stq: float, aq: float, sq: float
) -> None:
    """Tracks over five moments, whose values deeplab2's own test states; the names of classes are given."""
    ours = VideoQualitySemanticMatching([0], [1], 2)
    # The moments are pixels there, and frames of one pixel here: a tube is the same either way.
    for frames in (np.swapaxes(pred, 0, 2), pred):
        moments = np.swapaxes(truth, 0, 2) if len(frames) > 1 else truth
        ours.reset()
        ours.update_frames(torch.from_numpy(frames), torch.from_numpy(moments), 0, range(len(frames)))
        scores = ours.compute_all(np.array([0, 1]))["standard"]
        found = [float(scores[key]) for key in ("stq", "aq", "stq_sq")]
        np.testing.assert_allclose(found, [stq, aq, sq], atol=1e-7)


def test_vpq__a_switch_of_identity_by_hand() -> None:
    """Two frames of a car on sky; the car's number changes in between.

    Alone each frame is right. Over both, sky is right and the tubes of the car have IoU 1/2 with the object,
    no match: 1 miss, 2 false. So VPQ is 1 of sky and 0 of the car.
    """
    truth = np.array([[[[0, 1], [1, 0]]], [[[0, 1], [1, 0]]]])
    pred = truth.copy()
    pred[1, 0, 0, 1] = 2
    ours = VideoQualitySemanticMatching([0], [1], 2, windows=(1, 2))
    ours.update_frames(torch.from_numpy(pred), torch.from_numpy(truth), 5, [10, 11])
    scores = ours.compute()
    assert [float(scores[key]) for key in ("vpq_1", "vpq_2", "vpq_2_things", "vpq_2_stuff", "vpq")] == [
        1.0,
        0.5,
        0.0,
        1.0,
        0.75,
    ]
    assert (float(scores["aq"]), float(scores["stq_sq"])) == (0.5, 1.0)


def test_update__order_batches_and_repeats_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    videos, ours, other = drawn(11, (6, 5), 4), metric(), metric()
    add(ours, videos)
    order = np.random.default_rng(0).permutation(
        [(n, f) for n, (p, _) in enumerate(videos) for f in range(len(p))]
    )
    for number, frame in [*order.tolist(), order[0].tolist()]:
        pred, truth = (torch.from_numpy(part[frame : frame + 1]) for part in videos[number])
        other.update_frames(pred, truth, number, [100 + 5 * frame])
    monkeypatch.setattr(tubes, "WINDOWS_AT_ONCE", 2)
    first, second = ours.compute(), other.compute()
    assert len(first) == len(second) > 30
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], equal_nan=True, rtol=0, atol=1e-12)


def test_compute__short_clips_and_stuff_alone_have_no_value() -> None:
    ours = metric()
    ours.update_frames(
        torch.zeros(1, 2, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, 2, dtype=torch.int64), 0, [0]
    )
    scores = ours.compute()
    assert float(scores["vpq_1"]) == float(scores["stq_sq"]) == 1.0
    assert all(np.isnan(float(scores[key])) for key in ("aq", "stq", "vpq_2", "vpq", "vpq_1_things"))


def test_compute__classes_that_do_not_count() -> None:
    truth = torch.tensor([[[[2, 1], [3, 2], [0, 0], [0, 0]]]])
    pred = torch.tensor([[[[2, 1], [3, 2], [0, 0], [3, 2]]]])
    ours = metric(classes_mask=[True, True, True, False])
    ours.update_frames(pred, truth, 0, [0])
    scores = ours.compute()
    assert float(scores["aq"]) == 1.0 and float(scores["stq_sq"]) == pytest.approx(3 / 4)


def test_update__needs_a_clip() -> None:
    empty = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="clip -1"):
        metric().update_frames(empty, empty, -1, [0])
    ours = metric()
    ours.update(empty, empty)
    with pytest.raises(ValueError, match="use update_frames"):
        ours.compute()
    with pytest.raises(ValueError, match="windows"):
        metric(windows=())


def test_state__stays_small_in_a_long_clip() -> None:
    truth = np.zeros((1, 64, 128, 2), dtype=np.int64)
    truth[:, 20:40, 30:60] = (2, 1)
    ours = metric()
    for frame in range(100):
        moved = np.roll(truth, frame % 20, axis=2)
        ours.update_frames(torch.from_numpy(moved), torch.from_numpy(moved), 0, [frame])
    assert ours.state_bytes < 100 * 200
    assert float(ours.compute()["stq"]) == 1.0


@pytest.mark.parametrize(("later", "expected"), [(70000, 1.0), (70000 - 2**16, 0.5), (2**31 - 1, 0.5)])
def test_association__large_numbers_are_told_apart(later: int, expected: float) -> None:
    """Object numbers of other tools do not fit 16 bits."""
    metric = VideoQualitySemanticMatching([1], [0], 2)
    truth = torch.tensor([[[[0, 0], [1, 5]]]])
    for frame, number in enumerate((70000, later)):
        metric.update_frames(torch.tensor([[[[0, 0], [1, number]]]]), truth, 0, [frame])
    assert float(metric.compute()["aq"]) == pytest.approx(expected)
