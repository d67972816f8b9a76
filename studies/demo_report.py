"""The demo's report: results, costs and pictures, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.data.cityscapes import GroundTruthFrame, list_ground_truth_frames, read_panoptic_target
from cups.evaluation.comparison import NOTE, rows_of, sentence
from cups.evaluation.predict import to_classes
from cups.evaluation.results import Result, class_table, read_results, results_table, rows_path
from cups.io.coco_panoptic import read_panoptic
from cups.io.file_names import SPLIT_FILE
from cups.io.files import write_text
from cups.io.markdown import percent
from cups.io.png import read_image, write_png
from cups.io.provenance import code_version, ground_truth_answer, read_provenance
from cups.io.thing_stuff import read_split
from cups.metrics.bootstrap import paired_differences
from cups.ops.panoptic import to_panoptic
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import class_set
from cups.visualization import depth_to_color, figure_sheet, overlay
from pseudo_labels.inputs.labels import read_depth, read_pair
from pseudo_labels.steps.folders import (
    DEFAULT_METHOD,
    DEPTH_FOLDER,
    instance_folder,
)
from pseudo_labels.steps.pictures import fit
from studies.measure import StepRecord, machine_line, steps_table
from studies.toy_settings import LABELS

STEMS = ("pseudo_labels_val", "stage2_val/results", "stage3_val/results")
"""Results of the labels and of both stages."""
COLUMNS = ("image", "depth", "pseudo-label", "Stage 2", "Stage 3", "ground truth")


@dataclass(frozen=True)
class DemoFiles:
    """Where the demo keeps what the report shows."""

    output: Path
    semantics: str

    @property
    def instances(self) -> str:
        """The folder of the instances."""
        return instance_folder(DEFAULT_METHOD, self.semantics)

    @property
    def data(self) -> Path:
        """The toy data set."""
        return self.output / "toy_streets"

    @property
    def labels(self) -> Path:
        """The training labels."""
        return self.output / LABELS

    def results(self, name: str) -> list[Result]:
        """Results of one evaluation, the standard rule first."""
        return read_results(self.output / f"{name}.json")


def pseudo_label_classes(files: DemoFiles, frame: GroundTruthFrame, assignment: np.ndarray) -> PanopticMap:
    """Return classes and instances of a frame's pseudo-label, as the evaluation sees it."""
    relative = Path(frame.image.parent.parent.name) / frame.image.parent.name / f"{frame.stem}.png"
    semantic, instance = read_pair(
        files.data / files.semantics / relative, files.data / files.instances / relative
    )
    split = read_split(files.data / files.semantics / SPLIT_FILE)
    panoptic = to_panoptic(semantic, instance, split.things, split.pseudo_classes.total)
    return to_classes(panoptic, assignment)


def figure(files: DemoFiles, pseudo: Result, stage2: Result, stage3: Result, count: int = 4) -> np.ndarray:
    """Draw image, depth, labels of each stage and ground truth of frames spread over the val split."""
    classes = class_set(19)
    frames = list_ground_truth_frames(files.data, "val")
    frames = frames[:: max(1, len(frames) // count)][:count]
    rows = []
    for frame in frames:
        image = read_image(frame.image)
        depth = files.data / DEPTH_FOLDER / "val" / frame.image.parent.name / f"{frame.stem}.npy"
        maps = (
            pseudo_label_classes(files, frame, np.array(pseudo.assignment)),
            *(
                to_classes(
                    read_panoptic(files.output / f"{name}_val" / "predictions" / f"{frame.stem}.png"),
                    np.array(result.assignment),
                )
                for name, result in (("stage2", stage2), ("stage3", stage3))
            ),
            read_panoptic_target(frame.label_ids, frame.instance_ids, classes),
        )
        overlays = [overlay(image, panoptic, classes.colors) for panoptic in maps]
        rows.append([image, fit(depth_to_color(read_depth(depth)), image), *overlays])
    legend = list(zip(classes.names, classes.colors.tolist(), strict=True))
    return figure_sheet(COLUMNS, rows, [frame.stem for frame in frames], legend=legend)


def verdict(files: DemoFiles, name: str, stem: str, before_name: str, before_stem: str) -> str:
    """Say in a sentence whether a stage improved on what it learnt from, and whether the frames tell.

    stem, before_stem: of the results. Those of earlier versions have no rows, so no interval is given.
    """
    both = [files.output / before_stem, files.output / stem]
    if all(rows_path(results).is_file() for results in both):
        first, second = (rows_of(results) for results in both)
        return sentence(name, before_name, paired_differences(first, second)["pq"])
    result, before = files.results(stem)[0], files.results(before_stem)[0]
    compare = "beats" if result.metrics["pq"] > before.metrics["pq"] else "does not beat"
    return (
        f"{name} {compare} {before_name}: {percent(result.metrics['pq'])} against "
        f"{percent(before.metrics['pq'])} PQ ({result.void_rule} void rule)."
    )


def write_report(output: Path, semantics: str, records: Sequence[StepRecord]) -> Path:
    """Write `report.md` and `figure.png` into the demo's folder; return the report's path."""
    files = DemoFiles(output, semantics)
    pseudo, stage2, stage3 = (files.results(stem) for stem in STEMS)
    write_png(output / "figure.png", figure(files, pseudo[0], stage2[0], stage3[0]))
    provenance = read_provenance(files.labels) or {}
    uses = ground_truth_answer(provenance.get("uses_ground_truth"))
    text = f"""# Demo on toy streets

Validation split, {code_version()}, seed {stage2[0].seeds[0]}.
Training labels used ground truth: **{uses}** (`{files.labels.name}/provenance.json`).

{results_table([results[rule] for rule in (0, 1) for results in (pseudo, stage2, stage3)])}

- {verdict(files, "Stage 2", STEMS[1], "labels", STEMS[0])}
- {verdict(files, "Stage 3", STEMS[2], "Stage 2", STEMS[1])}

Standard void rule. {NOTE}

![image, depth, labels of each stage, ground truth](figure.png)

## Stage 3 by class

{class_table(stage3[0])}

## Time and memory

{steps_table(records)}

{machine_line()}. Peak memory is that of a step's largest process.
"""
    path = output / "report.md"
    write_text(path, text)
    return path
