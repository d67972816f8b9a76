"""Semantic scores of pseudo-labels: one pass counts clusters against classes, every matching uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cups.data.cityscapes import GroundTruthFrame
from cups.data.pseudo_label_dataset import align_labels
from cups.errors import UserError
from cups.evaluation.results import Result, results_table, without_repeats
from cups.evaluation.semantic import results_of_counts, to_protocol
from cups.io.children import ignore_stop_signals
from cups.io.file_names import SEMANTIC_SUFFIX
from cups.io.markdown import markdown_table, percent
from cups.io.png import read_ids
from cups.metrics import ConfusionMatrix
from cups.metrics.protocol import VOID_RULES, Matching, Protocol
from cups.ops.matching import hungarian_assignment, many_to_one_assignment, one_to_one_assignment
from cups.taxonomy import FIRST_EVALUATED_ID, VOID, ClassSet, train_id_to_id, void_value
from pseudo_labels.inputs.labels import read_semantic

SemanticReader = Callable[[GroundTruthFrame], np.ndarray]
"""Returns the (H, W) semantic map of a frame."""

MATCHERS: Mapping[Matching, Callable[[np.ndarray], np.ndarray]] = {
    "one-to-one": one_to_one_assignment,
    "joint": hungarian_assignment,
    "many-to-one": many_to_one_assignment,
}
"""Matching -> function of (K, C) counts that returns the class of each cluster, -1 for none."""


@dataclass(frozen=True)
class SemanticLabels:
    """A folder of semantic maps: `{split}/{city}/{stem}.png`, or the flat CUPS format if `split` is None."""

    folder: Path
    split: str | None
    num_classes: int

    def __call__(self, frame: GroundTruthFrame) -> np.ndarray:
        """Read one frame."""
        if self.split is None:
            path = self.folder / f"{frame.stem}{SEMANTIC_SUFFIX}"
        else:
            path = self.folder / self.split / frame.image.parent.name / f"{frame.stem}.png"
        return read_semantic(path, self.num_classes)


def count_pixels(
    semantic: np.ndarray, target: np.ndarray, num_clusters: int, num_classes: int, void: int
) -> np.ndarray:
    """Return (K + 1, C) int64 counts of one frame, as `ConfusionMatrix` has them.

    semantic, target: (H, W) of one size; `void` is the ignore value of both.
    """
    confusion = ConfusionMatrix(num_clusters, num_classes, void=void)
    confusion.update(semantic, target)
    return confusion.counts


class SemanticFrames(Dataset[Tensor]):
    """Items: (K + 1, C) int64 counts of a frame, see `count_pixels`."""

    def __init__(
        self,
        frames: Sequence[GroundTruthFrame],
        read: SemanticReader,
        protocol: Protocol,
        num_clusters: int,
    ) -> None:
        self.frames = list(frames)
        self.read = read
        self.protocol = protocol
        self.num_clusters = num_clusters

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        frame, void = self.frames[index], void_value(self.num_clusters)
        classes = self.protocol.classes
        target = torch.from_numpy(classes.of_ids(read_ids(frame.label_ids)))
        target[target == VOID] = void
        size = (target.shape[0], target.shape[1])
        semantic = torch.from_numpy(self.read(frame).astype(np.int64))
        semantic = align_labels(semantic, size, size, frame.stem)
        semantic, target = (to_protocol(ids, self.protocol, void) for ids in (semantic, target))
        counts = count_pixels(semantic.numpy(), target.numpy(), self.num_clusters, classes.num_classes, void)
        return torch.from_numpy(counts)


def semantic_counts(
    frames: Sequence[GroundTruthFrame],
    read: SemanticReader,
    protocol: Protocol,
    num_clusters: int,
    workers: int = 0,
) -> np.ndarray:
    """Count clusters against classes over all frames, one at a time: (K + 1, C) int64, row K void."""
    counts = np.zeros((num_clusters + 1, protocol.num_classes), dtype=np.int64)
    loader = DataLoader(
        SemanticFrames(frames, read, protocol, num_clusters),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
    )
    for one in tqdm(loader, desc="semantics", unit="img"):
        counts += one.numpy()
    return counts


def named_classes(num_labels: int, classes: ClassSet) -> np.ndarray:
    """Return the class of each named label: (num_labels,) int64, -1 where `classes` ignores it.

    num_labels: 19 (trainIds) or 27 (Cityscapes ids 7-33).
    """
    if num_labels not in (19, 27):
        raise UserError(f"`labels`: {num_labels} classes have no names; use clusters")
    ids = train_id_to_id()[:19] if num_labels == 19 else np.arange(27) + FIRST_EVALUATED_ID
    named = classes.from_id[ids].astype(np.int64)
    return np.where(named == VOID, -1, named)


def assignments(
    counts: np.ndarray, classes: ClassSet, *, named: bool = False
) -> Iterator[tuple[Matching, np.ndarray]]:
    """Yield each matching with the class of each cluster, (K,), -1 for none.

    The Hungarian matching with left-over clusters to their best class ("joint") says nothing new where there
    are no more clusters than classes, and is left out there.

    counts: (K + 1, C) that the matchings are fitted on; named: the K labels are 19 or 27 classes with names.
    """
    if named:
        yield "named", named_classes(len(counts) - 1, classes)
    for matching, match in MATCHERS.items():
        if matching != "joint" or len(counts) - 1 > classes.num_classes:
            yield matching, match(counts[:-1])


def semantic_results(
    name: str,
    counts: np.ndarray,
    protocol: Protocol,
    *,
    fitted: np.ndarray | None = None,
    named: bool = False,
    **rest: Any,
) -> list[Result]:
    """Make one Result per matching and void rule.

    Args:
        name: what was evaluated.
        counts: (K + 1, C) of the images scored.
        protocol: its matching and void rule are replaced by those of each result.
        fitted: (K + 1, C) of the images that matchings are fitted on; by default those scored.
        named: the labels are 19 or 27 classes with names.
        rest: further fields of `Result`.
    """
    source = counts if fitted is None else fitted
    results = []
    for matching, assignment in assignments(source, protocol.classes, named=named):
        fitted_on = "" if matching == "named" else protocol.fitted_on
        line = replace(protocol, matching=matching, fitted_on=fitted_on)
        results += results_of_counts(f"{name}, {matching}", counts, assignment, line, **rest)
    return results


def semantic_report(results: Sequence[Result]) -> str:
    """Return the Markdown tables of `semantic_results`: averages, then IoU per class and matching.

    The second void rule has a row only where it differs: for labels that hold void.
    """
    first = {result.name: result for result in results if result.void_rule == VOID_RULES[0]}
    rows = [
        (name, values["kind"], *(percent(float(result.per_class[name]["iou"])) for result in first.values()))
        for name, values in results[0].per_class.items()
    ]
    titles = [name.rsplit(", ", 1)[-1] for name in first]
    classes = markdown_table(rows, ("IoU", "kind", *titles))
    return f"{results_table(without_repeats(results), ('miou', 'accuracy'))}\n\n{classes}"
