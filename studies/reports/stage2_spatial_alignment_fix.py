"""Report: Stage 2 with image and labels in one geometry, and with labels that are cropped but not scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cups.data.image_finder import ImageFinder
from cups.data.pseudo_label_dataset import align_labels
from cups.data.utils import image_array, image_tensor
from cups.evaluation.predict import to_classes
from cups.evaluation.results import TITLES, Result
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import read_ids, read_image
from cups.metrics.bootstrap import METRICS
from cups.ops.panoptic import to_panoptic
from cups.ops.panoptic_map import PanopticMap
from cups.ops.resize import resize_image, scaled_size
from cups.taxonomy import class_set
from cups.visualization import figure_sheet, overlay
from pseudo_labels.steps.stage1 import Command
from studies.reports.pictures import legend, picture_link
from studies.reports.text import (
    RULE,
    fact,
    header,
    judge_runs,
    metrics_table,
    protocols,
    published_table,
    spread,
    steps_summary,
    table,
    verdict_list,
)
from studies.toy_runs import ToyRuns
from studies.toy_settings import LABELS
from studies.toy_training import PSEUDO_LABELS, ToyTraining, network_result

NAME = "stage2_spatial_alignment_fix"
SCALE = 0.625
"""`DATA.SCALE` of CUPS: 1024x2048 -> 640x1280."""

SIZE = (120, 240)
"""What `SCALE` makes of frames of 192x384."""

PAIRS = (
    *("DATA.SCALE", str(SCALE), "DATA.CROP_RESOLUTION", str(SIZE)),
    *("DATA.VAL_SCALE", str(SCALE)),
)
DISPLACED = "cups_pseudo_labels_displaced"
ARMS = (
    ("labels aligned: scaled with the image, then cropped", network_result("aligned")),
    ("labels displaced: cropped, not scaled", network_result("displaced")),
)
"""Printed name and result file of each training."""

PUBLISHED = (
    (
        "Stage 2 with displaced labels / with aligned labels",
        "PQ 8-11 / 22.5",
        "labels stored at 1024x2048, DATA.SCALE 0.625; matching, classes and seeds not told",
        "description of the published pipeline that this repository rebuilds",
        "C",
    ),
)


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments."""
    result = []
    for seed in runs.seeds:
        run = ToyTraining(runs, seed)
        displaced = run.root / DISPLACED
        flags = ("--pseudo_root", str(run.labels), "--output_dir", str(displaced), "--scale", str(SCALE))
        name = f"Stage 2 at scale {SCALE}"
        result += [
            *run.label_steps(),
            Command(f"seed {seed}: labels displaced", "studies/displace_labels.py", flags),
            *run.stage2(f"{name}, labels aligned", "aligned", PAIRS),
            *run.stage2(f"{name}, labels displaced", "displaced", PAIRS, displaced),
        ]
    return result


def shown_labels(folder: Path, stem: str, result: Result) -> PanopticMap:
    """Return the labels of a frame as training shows them: classes and instances at `SIZE`.

    Pseudo-classes are matched to classes as in the labels' own evaluation, `result`.
    """
    raw = tuple(round(side / SCALE) for side in SIZE)
    semantic, instance = (
        align_labels(torch.from_numpy(read_ids(path).astype(np.int64)), (raw[0], raw[1]), SIZE, str(path))
        .numpy()
        .astype(np.uint16)
        for path in (folder / f"{stem}{suffix}" for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX))
    )
    config = result.config
    panoptic = to_panoptic(semantic, instance, config.get("things", ()), int(config["num_semantic_classes"]))
    return to_classes(panoptic, np.array(result.assignment))


def training_frames(runs: ToyRuns, seed: int) -> tuple[list[str], Result] | None:
    """Return the training frames of a seed that have labels of both kinds, and the labels' evaluation."""
    result = runs.results(PSEUDO_LABELS).get(seed)
    run = ToyTraining(runs, seed)
    aligned, displaced = (
        {path.name.removesuffix(SEMANTIC_SUFFIX) for path in folder.glob(f"*{SEMANTIC_SUFFIX}")}
        for folder in (run.labels, run.root / DISPLACED)
    )
    stems = sorted(aligned & displaced)
    return (stems, result) if result is not None and stems else None


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return image, right and displaced labels of training frames of the first seed, if they were made."""
    seed = runs.seeds[0]
    found = training_frames(runs, seed)
    if found is None:
        return {}
    stems, result = found
    run, find_image = ToyTraining(runs, seed), ImageFinder(runs.data)
    rows = []
    for stem in stems[:: max(1, len(stems) // 3)][:3]:
        image = image_array(resize_image(image_tensor(read_image(find_image(stem))), SIZE))
        maps = [shown_labels(folder, stem, result) for folder in (run.labels, run.root / DISPLACED)]
        rows.append([image, *(overlay(image, labels, class_set(19).colors) for labels in maps)])
    columns = ("image", "labels aligned", "labels displaced")
    return {NAME: figure_sheet(columns, rows, legend=legend(), tile_width=400)}


def displaced_share(runs: ToyRuns) -> dict[int, float]:
    """Return the share of training pixels (0-1) whose displaced label is of another class, by seed."""
    shares = {}
    for seed in runs.seeds:
        found = training_frames(runs, seed)
        if found is not None:
            stems, result = found
            run = ToyTraining(runs, seed)
            pairs = (
                (
                    shown_labels(folder, stem, result).categories
                    for folder in (run.labels, run.root / DISPLACED)
                )
                for stem in stems
            )
            shares[seed] = float(np.mean([(right != wrong).mean() for right, wrong in pairs]))
    return shares


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    question = (
        "What does Stage 2 lose when the loader scales the image but not the labels, before it crops both "
        "around their centres?"
    )
    (_, aligned), (_, displaced) = ARMS
    verdicts = [
        judge_runs(
            runs,
            f"aligned labels beat displaced ones on {TITLES[metric]}",
            ("aligned", aligned),
            ("displaced", displaced),
            metric,
        )
        for metric in METRICS
    ]
    height, width = scaled_size((1024, 2048), (1 - SCALE) / 2)
    folders = (LABELS, DISPLACED)
    provenance = [(f"`{folder}`", fact(runs.uses_ground_truth(folder))) for folder in folders]
    return f"""{header("Alignment of image and labels in Stage 2", question, runs, NAME)}

## Verdict

{verdict_list(verdicts)}

{RULE}

## What goes wrong

Training wants frames of 1024x2048 at `DATA.SCALE` {SCALE}, 640x1280. CUPS's loader scales the image and crops
image and labels around their centres. That is right for the labels that CUPS itself writes, at 640x1280;
labels at the size of the image lose their margin instead of being scaled. The image then shows the whole
scene, the labels its centre, enlarged {1 / SCALE:g} times: right in the middle, {height} rows and {width}
columns off at the border. Nothing fails; the network learns from labels of other places.

The rule here (`align_labels` in `cups/data/pseudo_label_dataset.py`): labels at training size stay, labels
of the image's size or shape are scaled with it (nearest pixel), any other size is an error. Then both are
cropped alike.

## The experiment

The demo's network and budget at `DATA.SCALE` {SCALE}: frames of 192x384 become {SIZE[0]}x{SIZE[1]}, and
displaced labels are off by up to {(192 - SIZE[0]) // 2} rows and {(384 - SIZE[1]) // 2} columns, the same
share of the frame as at 1024x2048. Validation frames are scaled alike. The fault is in the files:
`studies/displace_labels.py` cuts each label to the window that the faulty loader would have shown, which has
training size, so that our loader leaves it as it is. Both trainings read the same images and share everything
else, the thing/stuff split included.

{metrics_table(NAME, runs, ARMS)}

Void rule: standard (a predicted void pixel is an error). The same under the rule of the published figures:

{metrics_table(NAME, runs, ARMS, void_rule="upstream")}

{protocols(runs, [file for _, file in ARMS])}

Training pixels whose displaced label is of another class, in percent:
{spread(displaced_share(runs), runs.seeds)}.

{picture_link(NAME, "training frames with both kinds of labels, seed " + str(runs.seeds[0]), drawn)}

## Ground truth used

{table(NAME, provenance, ("folder", "used ground truth"))}

As each folder's `provenance.json` says, over all seeds and everything upstream.

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

## Published figures

{published_table(NAME, PUBLISHED)}
"""
