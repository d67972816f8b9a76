"""Panoptic quality of pseudo-classes, matched to the ground-truth classes after the last image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cups.defaults import VOID_RULE
from cups.metrics.overlap import overlap_rows, overlap_table
from cups.metrics.protocol import VOID_RULES, VoidRule, check_void_rule
from cups.metrics.scored_rows import ScoredRows
from cups.metrics.segments import VOID_CLASS, PanopticCounts, SegmentTable, panoptic_counts, segment_table
from cups.metrics.semantic import semantic_quality
from cups.ops.matching import hungarian_assignment
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID

_NO_IMAGE_ID = -1
_ROW = 5
_HEADER = 2


class PanopticQualitySemanticMatching(Metric):
    """PQ, SQ, RQ, mIoU and accuracy of clusters that are matched to classes by their total overlap.

    The state is the sparse segment-overlap table of each image (`cups.metrics.overlap`), so matching needs no
    second pass over pixels, both void rules come from one state, and the result does not depend on the order
    of images, on the batches or on the number of processes. Sources: Kirillov et al. (CVPR 2019), section 4,
    for PQ; Hahn et al. (CVPR 2025, CUPS) for the matching.

    Args:
        things, stuffs: ground-truth class ids.
        num_clusters: K; predicted categories are 0..K-1. It may be smaller than the number of classes: a
            class without a cluster then has only false negatives.
        things_prototype, stuffs_prototype: cluster ids, together 0..K-1; things are then matched with things
            only and stuff with stuff only. None for both matches everything with everything.
        classes_mask: one bool for each class in rising id order; averages are over these classes.
        void_rule: what `compute` returns; see `cups.metrics.protocol.VOID_RULES`.
        void: category of void pixels in predictions and ground truth; must not be a cluster or class id.
        assignment: (K,) index among the classes of each cluster, where it is known: nothing is matched then.
        kwargs: see `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rows: list[Tensor] | Tensor
    header: list[Tensor] | Tensor

    def __init__(
        self,
        things: Iterable[int],
        stuffs: Iterable[int],
        num_clusters: int,
        things_prototype: Iterable[int] | None = None,
        stuffs_prototype: Iterable[int] | None = None,
        classes_mask: Sequence[bool] | Tensor | np.ndarray | None = None,
        *,
        void_rule: VoidRule = VOID_RULE,
        void: int = VOID,
        assignment: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the arguments and start from an empty state."""
        super().__init__(**kwargs)
        check_void_rule(void_rule)
        self.void_rule = void_rule
        self.void = void
        self.assignment = assignment
        self.num_clusters = num_clusters
        self._classes, self._is_thing = _class_table(things, stuffs, void)
        if not 0 < num_clusters <= void:
            raise ValueError(
                f"num_clusters is {num_clusters}, must be in 1..{void}; set void= to an id above all clusters"
            )
        self._groups = self._matching_groups(num_clusters, things_prototype, stuffs_prototype)
        self._mask = _checked_mask(classes_mask, len(self._classes))
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("header", default=[], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor | Sequence[PanopticMap],
        target: Tensor | Sequence[PanopticMap],
        image_ids: Iterable[int] | Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            preds, target: B `PanopticMap`s, or (B, H, W, 2) integer (category, instance), which takes several
                times as long. Instance ids must differ between objects of an image, whatever their category;
                0 is none. Instances of stuff are ignored. Under the standard rule a thing class with instance
                0 in `target` is a crowd region.
            image_ids: (B,) integer >= 0. An image that comes twice, as a padding distributed sampler makes
                it, counts once. Without ids every image counts.

        Raises:
            ValueError: for wrong shapes or dtypes, and for ids that are neither clusters, classes nor void.
        """
        pred_maps, target_maps = _checked_batch(preds, target)
        ids = _checked_image_ids(image_ids, len(pred_maps))
        batch = []
        for pred_map, target_map in zip(pred_maps, target_maps, strict=True):
            table = overlap_table(pred_map, target_map)
            self._check_categories(table.pred_category, table.target_category)
            batch.append(overlap_rows(table))
        header = np.stack((ids, [len(rows) for rows in batch]), axis=1)
        self._append(np.concatenate(batch), header)

    def update_rows(self, rows: np.ndarray) -> None:
        """Add one image by the (M, 5) rows of its overlap table, see `cups.metrics.overlap.overlap_rows`."""
        self._check_categories(rows[:, 0], rows[:, 2])
        self._append(rows, np.array([[_NO_IMAGE_ID, len(rows)]]))

    def compute(self) -> dict[str, Tensor]:
        """Return the scores under `void_rule`: float64 scalars and (C,) vectors in 0-1, and counts.

        Keys:
            `pq`, `sq`, `rq`, each also with `_things` and `_stuff`: means over classes that occur, nan when
            none does. `pq_per_class`, `sq_per_class`, `rq_per_class`: (C,) in rising class id order, 0 where
            a class does not
                occur; `true_positives_per_class`, `false_positives_per_class`, `false_negatives_per_class`:
                int64.
            `miou`, `accuracy`, `iou_per_class`: from a matching without thing/stuff separation.
            `assignment`, `assignment_semantic`: (K,) int64, class id of each cluster, `void` for none.
        torchmetrics makes scalars of vectors with one element.
        """
        return self._scores(self.void_rule)[self.void_rule]

    def compute_all(self, assignment: np.ndarray | None = None) -> dict[VoidRule, dict[str, Tensor]]:
        """Return what `compute` returns under each void rule, {"standard": ..., "upstream": ...}.

        assignment: (K,) index among the classes of each cluster, -1 for none, instead of the Hungarian one,
            to compare predictions under the same names; mIoU and accuracy keep their own matching.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self._scores(*VOID_RULES, assignment=assignment)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the state of all processes; a process that saw no image takes part with an empty table."""
        if isinstance(self.rows, list) and not self.rows:
            self._append(np.empty((0, _ROW)), np.empty((0, _HEADER)))
        super().sync(*args, **kwargs)

    def scored_rows(
        self,
        names: Sequence[str],
        class_names: Sequence[str],
        scores: Mapping[VoidRule, Mapping[str, Any]],
    ) -> ScoredRows:
        """Return what the scores were made of, image by image.

        Args:
            names: of the images, in the order of their updates.
            class_names: in rising class id order.
            scores: of `compute_all`; the matchings are taken from their `assignment` and
                `assignment_semantic`.

        Raises:
            ValueError: another number of names than images.
        """
        rows = dim_zero_cat(self.rows).cpu().numpy()
        _, lengths = dim_zero_cat(self.header).cpu().numpy().T
        if (len(names), len(class_names)) != (len(lengths), len(self._classes)):
            raise ValueError(
                f"{len(names)} names for {len(lengths)} images, {len(class_names)} for {len(self._classes)} "
                "classes"
            )
        panoptic, semantic = (
            {rule: self._positions(np.asarray(values[key])) for rule, values in scores.items()}
            for key in ("assignment", "assignment_semantic")
        )
        texts = (np.array(list(part), dtype=np.str_) for part in (names, class_names))
        of_image, of_class = texts
        about = (self._classes, self._is_thing, self._mask, self.void)
        return ScoredRows(of_image, lengths, rows, of_class, *about, panoptic, semantic)

    @property
    def state_bytes(self) -> int:
        """Bytes of the kept state."""
        tensors = [part for state in (self.rows, self.header) for part in state]
        return sum(part.numel() * part.element_size() for part in tensors)

    def _append(self, rows: np.ndarray, header: np.ndarray) -> None:
        assert isinstance(self.rows, list) and isinstance(self.header, list)
        self.rows.append(torch.from_numpy(rows.astype(np.int32)).to(self.device))
        self.header.append(torch.from_numpy(header.astype(np.int64)).to(self.device))

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (M, 5) int64 rows and the (M,) image number of each, without repeated images."""
        rows = dim_zero_cat(self.rows).cpu().numpy().astype(np.int64)
        ids, lengths = dim_zero_cat(self.header).cpu().numpy().T
        keep = np.ones(len(ids), dtype=bool)
        named = np.flatnonzero(ids != _NO_IMAGE_ID)
        keep[named] = False
        keep[named[np.unique(ids[named], return_index=True)[1]]] = True
        image = np.repeat(np.arange(len(ids)), lengths)
        return rows[keep[image]], image[keep[image]]

    def _scores(
        self, *rules: VoidRule, assignment: np.ndarray | None = None
    ) -> dict[VoidRule, dict[str, Tensor]]:
        if not sum(len(part) for part in self.header):
            raise ValueError("no image was given to the metric; call update first")
        rows, image = self._table()
        target_class = np.where(
            rows[:, 2] == self.void, VOID_CLASS, np.searchsorted(self._classes, rows[:, 2])
        )
        counts = self._confusion(rows, target_class)
        tables: dict[bytes, SegmentTable] = {}
        reports = {}
        for rule in rules:
            match = self._matching(counts[:-1], rule)
            panoptic = match(self._groups) if assignment is None else assignment
            names = panoptic.tobytes()
            if names not in tables:
                pred_class = np.append(panoptic, VOID_CLASS)[self._cluster(rows)]
                tables[names] = segment_table(rows, image, pred_class, target_class, self._is_thing)
            reports[rule] = self._report(tables[names], counts, panoptic, match(), rule)
        return reports

    def _matching(self, counts: np.ndarray, rule: VoidRule) -> Callable[..., np.ndarray]:
        """Return the function that matches clusters to classes by the pixels that they share."""
        if (known := self.assignment) is not None:
            return lambda groups=None: known
        return partial(hungarian_assignment, counts, empty_pairs=rule == "upstream")

    def _report(
        self,
        table: SegmentTable,
        counts: np.ndarray,
        panoptic: np.ndarray,
        semantic: np.ndarray,
        rule: VoidRule,
    ) -> dict[str, Tensor]:
        panoptic_part = self._averages(panoptic_counts(table, len(self._classes), rule))
        quality = semantic_quality(counts, semantic, void_rule=rule, classes_mask=self._mask)
        arrays = panoptic_part | {
            "miou": quality.miou,
            "accuracy": quality.accuracy,
            "iou_per_class": quality.iou_per_class,
            "assignment": self._class_ids(panoptic),
            "assignment_semantic": self._class_ids(semantic),
        }
        return {key: torch.as_tensor(np.asarray(value), device=self.device) for key, value in arrays.items()}

    def _averages(self, counts: PanopticCounts) -> dict[str, Any]:
        occurs = (counts.weight > 0) & self._mask
        groups = {"": occurs, "_things": occurs & self._is_thing, "_stuff": occurs & ~self._is_thing}
        scores: dict[str, Any] = {}
        for name, per_class in zip(("pq", "sq", "rq"), counts.quality(), strict=True):
            for suffix, chosen in groups.items():
                scores[name + suffix] = per_class[chosen].mean() if chosen.any() else float("nan")
            scores[f"{name}_per_class"] = per_class
        for name in ("true_positives", "false_positives", "false_negatives"):
            scores[f"{name}_per_class"] = getattr(counts, name)
        return scores

    def _confusion(self, rows: np.ndarray, target_class: np.ndarray) -> np.ndarray:
        """Return (K + 1, C) pixel counts, row K for predicted void, target void left out."""
        size = (self.num_clusters + 1, len(self._classes))
        valid = target_class != VOID_CLASS
        counts = np.zeros(size, dtype=np.int64)
        np.add.at(counts, (self._cluster(rows)[valid], target_class[valid]), rows[valid, 4])
        return counts

    def _cluster(self, rows: np.ndarray) -> np.ndarray:
        """Return the predicted cluster of each row, K for void."""
        return np.where(rows[:, 0] == self.void, self.num_clusters, rows[:, 0])

    def _class_ids(self, assignment: np.ndarray) -> np.ndarray:
        return np.append(self._classes, self.void)[assignment]

    def _positions(self, class_ids: np.ndarray) -> np.ndarray:
        """Return the opposite of `_class_ids`."""
        class_ids = np.atleast_1d(class_ids)
        return np.where(class_ids == self.void, VOID_CLASS, np.searchsorted(self._classes, class_ids))

    def _check_categories(self, pred: np.ndarray, target: np.ndarray) -> None:
        wrong = pred[(pred >= self.num_clusters) & (pred != self.void)]
        if len(wrong):
            raise ValueError(
                f"preds hold category {wrong[0]}, "
                f"neither a cluster (0..{self.num_clusters - 1}) nor void ({self.void})"
            )
        wrong = target[~np.isin(target, self._classes) & (target != self.void)]
        if len(wrong):
            raise ValueError(
                f"target holds category {wrong[0]}, neither in things or stuffs nor void ({self.void})"
            )

    def _matching_groups(
        self,
        num_clusters: int,
        things_prototype: Iterable[int] | None,
        stuffs_prototype: Iterable[int] | None,
    ) -> list[tuple[list[int], np.ndarray]] | None:
        if things_prototype is None and stuffs_prototype is None:
            return None
        if things_prototype is None or stuffs_prototype is None:
            raise ValueError("give both things_prototype and stuffs_prototype, or neither")
        things, stuffs = ([int(cluster) for cluster in part] for part in (things_prototype, stuffs_prototype))
        if sorted(things + stuffs) != list(range(num_clusters)):
            raise ValueError(
                f"things_prototype and stuffs_prototype must hold each cluster 0..{num_clusters - 1} once"
            )
        return [(things, np.flatnonzero(self._is_thing)), (stuffs, np.flatnonzero(~self._is_thing))]


def _class_table(things: Iterable[int], stuffs: Iterable[int], void: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising class ids (C,) int64 and which are things (C,) bool."""
    thing_ids, stuff_ids = {int(index) for index in things}, {int(index) for index in stuffs}
    if thing_ids & stuff_ids:
        raise ValueError(f"classes {sorted(thing_ids & stuff_ids)} are in both things and stuffs")
    classes = sorted(thing_ids | stuff_ids)
    if not classes or classes[0] < 0 or void in classes:
        raise ValueError(
            f"things and stuffs must hold class ids >= 0 other than void ({void}), got {classes}"
        )
    return np.array(classes, dtype=np.int64), np.array([index in thing_ids for index in classes])


def _checked_mask(mask: Sequence[bool] | Tensor | np.ndarray | None, num_classes: int) -> np.ndarray:
    if mask is None:
        return np.ones(num_classes, dtype=bool)
    array = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
    if array.shape != (num_classes,):
        raise ValueError(
            f"classes_mask must hold {num_classes} values, one for each class, not {array.shape}"
        )
    return array.astype(bool)


def _checked_batch(
    preds: Tensor | Sequence[PanopticMap], target: Tensor | Sequence[PanopticMap]
) -> tuple[Any, Any]:
    """Return the maps of each side: sequences of `PanopticMap`, or (B, H, W, 2) arrays."""
    for name, maps in (("preds", preds), ("target", target)):
        if isinstance(maps, Tensor):
            _check_tensor(maps, name)
        elif not all(isinstance(item, PanopticMap) for item in maps):
            raise ValueError(f"{name} must be a sequence of PanopticMap, or a tensor of shape (B, H, W, 2)")
    if isinstance(preds, Tensor) and isinstance(target, Tensor) and preds.shape != target.shape:
        raise ValueError(f"preds {tuple(preds.shape)} and target {tuple(target.shape)} differ in shape")
    if len(preds) != len(target):
        raise ValueError(f"preds hold {len(preds)} images but target {len(target)}")
    if not len(preds):
        raise ValueError("the batch holds no image")
    one, other = (
        maps.detach().cpu().numpy() if isinstance(maps, Tensor) else maps for maps in (preds, target)
    )
    return one, other


def _check_tensor(maps: Tensor, name: str) -> None:
    if maps.ndim != 4 or maps.shape[-1] != 2:
        raise ValueError(
            f"{name} must be of shape (B, H, W, 2) = (category, instance), not {tuple(maps.shape)}"
        )
    if maps.is_floating_point() or maps.is_complex() or maps.dtype == torch.bool:
        raise ValueError(f"{name} must hold integer ids, not {maps.dtype}")
    if not maps.numel():
        raise ValueError(f"the batch of shape {tuple(maps.shape)} holds no pixels")


def _checked_image_ids(image_ids: Iterable[int] | Tensor | None, size: int) -> np.ndarray:
    if image_ids is None:
        return np.full(size, _NO_IMAGE_ID, dtype=np.int64)
    ids = np.array([int(index) for index in image_ids], dtype=np.int64)
    if ids.shape != (size,) or (ids < 0).any():
        raise ValueError(f"image_ids must be {size} integers >= 0, one for each image, got {ids.tolist()}")
    return ids
