"""What panoptic scores were made of, image by image: kept in a file beside them, for comparisons later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.files import atomic_write, read_npz
from cups.metrics.protocol import VOID_RULES, VoidRule

_ARRAYS = ("names", "lengths", "rows", "class_names", "class_ids", "is_thing", "averaged", "void", "clusters")
_FIX = "evaluate again"


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The overlap rows of N scored images, and how clusters were matched to the C classes.

    Attributes:
        names: (N,) text, each image once.
        lengths: (N,) int64, rows of each image.
        rows: (M, 5) int32, see `cups.metrics.overlap.overlap_rows`; those of an image stand together.
        class_names, class_ids: (C,) text and rising int64.
        is_thing, averaged: (C,) bool; means are over the classes that are `averaged`.
        void: category of void in `rows`.
        panoptic, semantic: void rule -> (K,) int64 index among the classes of each cluster, -1 for none: the
            matching of PQ and that of mIoU, over all images.
    """

    names: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    class_names: np.ndarray
    class_ids: np.ndarray
    is_thing: np.ndarray
    averaged: np.ndarray
    void: int
    panoptic: Mapping[VoidRule, np.ndarray]
    semantic: Mapping[VoidRule, np.ndarray]

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(next(iter(self.panoptic.values())))

    @property
    def image(self) -> np.ndarray:
        """(M,) int64, position of each row's image among the names."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def target_class(self) -> np.ndarray:
        """(M,) int64 index of each row's ground truth among the classes, -1 for void."""
        return np.where(self.rows[:, 2] == self.void, -1, np.searchsorted(self.class_ids, self.rows[:, 2]))

    def pred_class(self, assignment: np.ndarray) -> np.ndarray:
        """Return the (M,) index of each row's prediction among the classes under a matching, -1 for void."""
        cluster = np.where(self.rows[:, 0] == self.void, self.num_clusters, self.rows[:, 0])
        return np.append(assignment, -1)[cluster]

    def write(self, path: Path) -> None:
        """Write one .npz file, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAYS if name != "clusters"}
        matchings = {f"{kind}_{rule}": getattr(self, kind)[rule] for kind, rule in _matchings()}

        def save(temporary: Path) -> None:
            np.savez_compressed(temporary, **arrays, clusters=self.num_clusters, **matchings)

        atomic_write(path, save)

    @classmethod
    def read(cls, path: Path) -> ScoredRows:
        """Read what `write` wrote.

        Raises:
            UserError: missing or damaged file, or arrays that do not fit each other.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file; {_FIX}: results of earlier versions have no rows")
        stored: dict[str, Any] = read_npz(
            path, (*_ARRAYS, *(f"{kind}_{rule}" for kind, rule in _matchings()))
        )
        by_kind: dict[str, dict[VoidRule, np.ndarray]] = {"panoptic": {}, "semantic": {}}
        for kind, rule in _matchings():
            by_kind[kind][rule] = stored.pop(f"{kind}_{rule}")
        try:
            clusters, void = int(stored.pop("clusters")), int(stored.pop("void"))
            scored = cls(**stored, void=void, panoptic=by_kind["panoptic"], semantic=by_kind["semantic"])
            fits = _fits(scored, clusters)
        except (TypeError, ValueError, IndexError):
            fits = False
        if not fits:
            raise UserError(f"{path}: its arrays do not fit each other; {_FIX}")
        return scored


def _matchings() -> list[tuple[str, VoidRule]]:
    return [(kind, rule) for kind in ("panoptic", "semantic") for rule in VOID_RULES]


def _fits(scored: ScoredRows, clusters: int) -> bool:
    """Return whether arrays from a file have the shapes and ranges that `ScoredRows` names."""
    images, classes, rows = len(scored.names), len(scored.class_ids), scored.rows
    by_class = (scored.class_names, scored.class_ids, scored.is_thing, scored.averaged)
    matchings = [*scored.panoptic.values(), *scored.semantic.values()]
    whole = (scored.lengths, scored.class_ids, rows, *matchings)
    if not all(np.issubdtype(array.dtype, np.integer) for array in whole):
        return False
    if not (scored.names.dtype.kind == scored.class_names.dtype.kind == "U"):
        return False
    shapes = (
        scored.names.shape == scored.lengths.shape == (images,)
        and rows.shape == (int(scored.lengths.sum()), 5)
        and all(array.shape == (classes,) for array in by_class)
        and all(array.shape == (clusters,) for array in matchings)
    )
    if not shapes or scored.lengths.min(initial=0) < 0 or rows.min(initial=0) < 0:
        return False
    known = [np.append(np.arange(clusters), scored.void), np.append(scored.class_ids, scored.void)]
    ids = all(np.isin(rows[:, column], allowed).all() for column, allowed in zip((0, 2), known, strict=True))
    matched = all(((array >= -1) & (array < classes)).all() for array in matchings)
    return bool(ids and matched and scored.is_thing.dtype == scored.averaged.dtype == bool)
