"""The analysis of overclustering: k-means for many k without labels, measured against gtFine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from cups.io.files import write_json, write_text
from cups.io.provenance import code_version, write_provenance
from cups.metrics.protocol import Protocol
from cups.ops.kmeans import fit_kmeans
from cups.taxonomy import class_set
from pseudo_labels.algorithms.overclustering import (
    Fits,
    Reader,
    kind_of_regions,
    sample_vectors,
    shuffled_batches,
)
from pseudo_labels.networks.vectors import Pooled, vector_source
from pseudo_labels.scoring.engine import ground_truth_frames
from pseudo_labels.scoring.overclusters import (
    ALL_CLASSES,
    ClusterScore,
    Tally,
    count_clusters,
    score_clusters,
)
from pseudo_labels.scoring.overclusters_report import report, write_plot
from pseudo_labels.scoring.semantic import SemanticLabels, semantic_counts
from pseudo_labels.settings.overclusters import AnalysisFrames, AnalysisSettings
from pseudo_labels.steps.flags import recipe_of
from pseudo_labels.steps.folders import CAUSE_SEMANTICS
from pseudo_labels.steps.frames import Frame, input_paths
from pseudo_labels.steps.options import RunOptions
from pseudo_labels.steps.resume import recorded

log = logging.getLogger(__name__)
SCRIPT = "overclustering_cause"


@dataclass(frozen=True)
class Analysis:
    """What is measured, and where what was counted is kept.

    Attributes:
        semantics: folder of the plain CAUSE labels.
        folder: of centroids, counts and results.
    """

    source: AnalysisFrames
    settings: AnalysisSettings
    semantics: Path
    folder: Path

    def centroids(self, read: Reader, frames: Sequence[Frame], fits: Fits) -> dict[int, np.ndarray]:
        """Load or fit the centroids of every k: {k: (k, D) float32}; the samples are taken once."""
        chosen = self.settings
        pooled = Pooled(read) if chosen.regions else read

        @cache
        def samples() -> list[np.ndarray]:
            return sample_vectors(frames, pooled, chosen.tokens_per_image, chosen.seed, "vectors")

        names = ("seed", "features", "regions", "fit_split", "epochs", "tokens_per_image")
        settings = {name: getattr(chosen, name) for name in names} | {"images": len(frames)}
        settings |= kind_of_regions(chosen.regions)

        def fit(k: int) -> np.ndarray:
            log.info("k = %d", k)
            return fit_kmeans(shuffled_batches(samples(), chosen.epochs, chosen.seed), k, chosen.seed)

        return {
            k: fits.load_or_fit(f"centroids_k{k}.npz", partial(fit, k), settings | {"k": k})
            for k in chosen.ks
        }

    def count(self, read: Reader, sets: dict[int, np.ndarray], split: str) -> dict[int, Tally]:
        """Count the pixels of a split for every k."""
        return count_clusters(
            self.source.of_split(split).frames(),
            read,
            sets,
            lambda k: self.folder / f"counts_{split}_k{k}.npz",
            self.source.root,
            regions=self.settings.regions,
            workers=self.settings.num_workers,
        )

    def count_plain(self, split: str) -> np.ndarray | None:
        """Count the pixels of the plain CAUSE labels: (28, 27), None where there are none."""
        if not self.semantics.is_dir():
            log.warning("%s: no such folder; the comparison with plain CAUSE is left out", self.semantics)
            return None
        frames = ground_truth_frames(self.source.root, split, self.source.max_images)
        protocol = Protocol("analysis", num_classes=ALL_CLASSES, task="semantic")
        # Threads have read till here; processes started beside them could hang, and this pass is short.
        labels = SemanticLabels(self.semantics, split, ALL_CLASSES)
        return semantic_counts(frames, labels, protocol, ALL_CLASSES)

    def scores(self, read: Reader, sets: dict[int, np.ndarray]) -> list[ClusterScore]:
        """Return one score per k, the plain CAUSE labels first."""
        chosen, scored = self.settings, self.source.split
        classes, splits = class_set(chosen.num_classes), [scored]
        if chosen.match_split not in (None, scored):
            splits.append(chosen.match_split)
        tallies = {split: self.count(read, sets, split) for split in splits}
        plain = {split: counts for split in splits if (counts := self.count_plain(split)) is not None}
        limit, scores = chosen.recovered_iou, []
        if plain:
            scores.append(score_clusters("plain CAUSE", plain[scored], plain, classes, limit, named=True))
        for k in chosen.ks:
            tally = tallies[scored][k]
            fits = {split: tallies[split][k].counts for split in splits}
            scores.append(score_clusters(f"k = {k}", tally.counts, fits, classes, limit, tally.inertia))
        return scores


def analyse_overclusters(
    source: AnalysisFrames, settings: AnalysisSettings, run: RunOptions
) -> tuple[Path, str]:
    """Fit, count and score all numbers of clusters; write `analysis.md`, `.json` and `.png`.

    Returns:
        The folder of the analysis and the text of its report.

    Raises:
        UserError: missing codes, heads or ground truth, or centroids of a run with other settings.
    """
    settings, root = replace(settings, ks=settings.counts), run.root(source)
    folder = root / settings.folder
    images, fitting = source.frames(), source.of_split(settings.fit_split).frames()
    fits = Fits(folder, run.overwrite, frames=[frame.name for frame in fitting])
    vectors = vector_source(settings, root, fitting, fits)
    fits = replace(fits, source=vectors.fingerprint)
    analysis = Analysis(source, settings, root / CAUSE_SEMANTICS, folder)
    scores = analysis.scores(vectors.read, analysis.centroids(vectors.read, fitting, fits))
    arguments = recorded(source, settings, root)
    write_provenance(
        folder,
        script=SCRIPT,
        arguments=arguments,
        images=source.image_folder,
        inputs=[source.root / "gtFine", *input_paths(vectors.inputs)],
        weights=vectors.weights,
        uses_ground_truth=True,
        settings=recipe_of(settings),
        frames=[frame.name for frame in images],
        whole=True,
    )
    text = report(settings, source.split, scores, len(images))
    content = {
        "script": SCRIPT,
        "code_version": code_version(),
        "arguments": arguments,
        "images": len(images),
        "uses_ground_truth": True,
        "scores": [asdict(score) for score in scores],
    }
    write_json(folder / "analysis.json", content)
    write_text(folder / "analysis.md", text + "\n")
    write_plot(folder / "analysis.png", scores, settings.num_classes)
    return folder, text
