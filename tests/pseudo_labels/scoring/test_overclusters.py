"""Purity, sums and tallies of clusters small enough to count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.taxonomy import class_set
from pseudo_labels.scoring import overclusters
from pseudo_labels.scoring.overclusters import (
    Tally,
    collapse,
    count_clusters,
    fingerprint_of,
    load_tally,
    purity,
    score_clusters,
)
from pseudo_labels.steps.frames import Frame


def test_purity__hand_made() -> None:
    # 8 of 10, 3 of 6, an empty cluster: mean (0.8 + 0.5) / 2, weighted 11 / 16.
    assert purity(np.array([[8, 2], [3, 3], [0, 0]])) == pytest.approx((0.65, 11 / 16))


def test_purity__nothing_labelled() -> None:
    assert all(np.isnan(value) for value in purity(np.zeros((2, 3))))


def test_collapse__to_fewer_classes() -> None:
    counts = np.zeros((2, 27), np.int64)
    counts[0, [0, 2, 19]] = 5, 7, 1  # road, parking, car
    nineteen, seven = collapse(counts, class_set(19)), collapse(counts, class_set(7))
    assert nineteen[0, 0] == 5 and nineteen[0, 13] == 1 and nineteen.sum() == 6
    assert seven[0, 0] == 12 and seven[0, 6] == 1 and seven.sum() == 13


def test_score_clusters__hand_made() -> None:
    counts = np.zeros((4, 27), np.int64)
    counts[0, 0], counts[1, 0], counts[2, 1], counts[2, 19] = 60, 40, 30, 10
    elsewhere = counts.copy()
    elsewhere[1] = 0  # cluster 1 is not seen there
    score = score_clusters("k = 3", counts, {"val": counts, "train": elsewhere}, class_set(19), 0.5)
    assert score.miou["val"]["many-to-one"] == pytest.approx((1 + 0.75 + 0) / 3)
    assert score.iou["train"]["many-to-one"]["road"] == pytest.approx(0.6)
    assert score.recovered == ("road", "sidewalk") and (score.used, score.k) == (3, 3)
    assert (score.purity, score.purity_weighted) == pytest.approx(((1 + 1 + 0.75) / 3, 130 / 140))
    # Three clusters for three classes, one to one: 0 road, 1 none that occurs (or car), 2 sidewalk.
    assert score.miou["val"]["one-to-one"] < score.miou["val"]["many-to-one"]


def frames_of(root: Any) -> list[Frame]:
    names = [(stem, root.file("leftImg8bit", f"{stem}_leftImg8bit.png")) for stem in root.stems]
    return [Frame(stem, Path("train/aachen"), image) for stem, image in names]


def two_vectors(frame: Frame) -> np.ndarray:
    """Left half (1, 0), right half (0, 1), on an 8 x 16 grid."""
    vectors = np.zeros((8, 16, 2), np.float32)
    vectors[:, :8, 0] = vectors[:, 8:, 1] = 1
    return vectors


SETS = {2: np.eye(2, dtype=np.float32), 3: np.array([[1, 0], [0, 1], [-1, 0]], np.float32)}


def test_count_clusters__halves_of_the_image(tiny_root: Any, tmp_path: Path) -> None:
    tallies = count_clusters(
        frames_of(tiny_root), two_vectors, SETS, lambda k: tmp_path / f"{k}.npz", tiny_root.path, workers=2
    )
    assert tallies[2].frames == 2 and tallies[2].tokens == 2 * 8 * 16 and tallies[2].inertia == 0.0
    assert tallies[2].counts.sum() == 2 * 64 * 128
    assert tallies[2].counts.sum(axis=1).tolist() == [64 * 128, 64 * 128, 0]
    assert tallies[3].counts[2].sum() == 0


def test_count_clusters__inertia_is_the_mean_squared_distance(tiny_root: Any, tmp_path: Path) -> None:
    sets = {2: np.array([[0.5, 0], [0, 1]], np.float32)}
    tallies = count_clusters(
        frames_of(tiny_root)[:1], two_vectors, sets, lambda k: tmp_path / "t.npz", tiny_root.path
    )
    assert tallies[2].inertia == pytest.approx(0.25 / 2)


def test_count_clusters__reads_each_frame_once_and_resumes(
    tiny_root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overclusters, "SAVE_EVERY", 1)
    read: list[str] = []

    def failing(frame: Frame) -> np.ndarray:
        read.append(frame.stem)
        if len(read) == 2:
            raise UserError("killed")
        return two_vectors(frame)

    frames, path_of = frames_of(tiny_root), lambda k: tmp_path / f"{k}.npz"
    with pytest.raises(UserError, match="killed"):
        count_clusters(frames, failing, SETS, path_of, tiny_root.path)
    again = count_clusters(frames, failing, SETS, path_of, tiny_root.path)
    assert read == [frames[0].stem, frames[1].stem, frames[1].stem]
    whole = count_clusters(frames, two_vectors, SETS, lambda k: tmp_path / f"b{k}.npz", tiny_root.path)
    assert all(np.array_equal(again[k].counts, whole[k].counts) for k in SETS)
    # Another k is counted alone.
    more = count_clusters(frames, two_vectors, {**SETS, 4: np.eye(4, 2)}, path_of, tiny_root.path)
    assert more[4].frames == more[2].frames == 2 and np.array_equal(more[2].counts, whole[2].counts)


def test_load_tally__of_other_centroids_or_damaged(tiny_root: Any, tmp_path: Path) -> None:
    frames, path = frames_of(tiny_root), tmp_path / "tally.npz"
    name = fingerprint_of(SETS[2], frames, False)
    assert name != fingerprint_of(SETS[2] * 2, frames, False) != fingerprint_of(SETS[2], frames[:1], False)
    Tally(np.ones((3, 27), np.int64), frames=2, fingerprint=name).save(path)
    assert load_tally(path, 2, name).frames == 2
    assert load_tally(path, 2, "other").frames == 0
    path.write_bytes(path.read_bytes()[:100])
    assert load_tally(path, 2, name).frames == 0


def test_count_clusters__codes_of_another_length(tiny_root: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"codes of 2 channels, clusters of 5"):
        count_clusters(
            frames_of(tiny_root), two_vectors, {3: np.eye(3, 5)}, lambda k: tmp_path / "t.npz", tiny_root.path
        )
