"""Rows of scored images: they read back, and a damaged file is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.scored_rows import ScoredRows


def small() -> ScoredRows:
    metric = PanopticQualitySemanticMatching((1,), (0, 2), 4, void=255)
    for seed in (0, 1):
        maps = np.random.default_rng(seed).integers(0, 3, (2, 1, 6, 6, 2))
        maps[0, ..., 0] += 1
        metric.update(*(torch.from_numpy(part) for part in maps))
    return metric.scored_rows(["a", "b/c"], ["road", "car", "sky"], metric.compute_all())


def test_write__reads_back(tmp_path: Path) -> None:
    rows = small()
    path = tmp_path / "deep" / "results.rows.npz"
    rows.write(path)
    back = ScoredRows.read(path)
    assert back.names.tolist() == ["a", "b/c"] and back.class_names.tolist() == ["road", "car", "sky"]
    for name in ("lengths", "rows", "class_ids", "is_thing", "averaged"):
        assert np.array_equal(getattr(back, name), getattr(rows, name))
    for kind in ("panoptic", "semantic"):
        for rule, assignment in getattr(rows, kind).items():
            assert np.array_equal(getattr(back, kind)[rule], assignment) and len(assignment) == 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "no temporary file is left"


def test_scored_rows__a_name_for_each_image() -> None:
    metric = PanopticQualitySemanticMatching((1,), (0, 2), 4)
    metric.update(torch.zeros((1, 2, 2, 2), dtype=torch.int64), torch.zeros((1, 2, 2, 2), dtype=torch.int64))
    with pytest.raises(ValueError, match="2 names for 1 images"):
        metric.scored_rows(["a", "b"], ["road", "car", "sky"], metric.compute_all())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lengths", [3, 3]),
        ("names", ["a"]),
        ("rows", np.full((1, 5), 9)),
        ("panoptic_standard", [0, 1, 2, 3]),
        ("semantic_upstream", [0, 1]),
        ("class_names", ["road"]),
        ("is_thing", [0, 1, 0]),
        ("clusters", "x"),
    ],
)
def test_read__arrays_that_do_not_fit(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "results.rows.npz"
    small().write(path)
    stored = dict(np.load(path, allow_pickle=False))
    np.savez(path, **{**stored, name: np.array(value)})
    with pytest.raises(UserError, match=r"results\.rows\.npz: its arrays do not fit each other; evaluate"):
        ScoredRows.read(path)


def test_read__missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "results.rows.npz"
    with pytest.raises(UserError, match=r"no such file; evaluate again: results of earlier versions"):
        ScoredRows.read(path)
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match="unreadable arrays"):
        ScoredRows.read(path)
    np.savez(path, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"results\.rows\.npz: (unreadable arrays|holds no array)"):
        ScoredRows.read(path)
