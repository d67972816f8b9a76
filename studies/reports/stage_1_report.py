"""Report: the whole Stage 1 on toy streets, step by step, and what each part of it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pseudo_labels.steps.stage1 import Command, refined_folder
from studies.reports.pictures import label_sheet, picture_link
from studies.reports.text import (
    RULE,
    fact,
    header,
    judge_runs,
    metrics_table,
    protocols,
    published_table,
    steps_summary,
    table,
    verdict_list,
)
from studies.toy_runs import ToyRuns
from studies.toy_settings import CLUSTERS, OVERCLUSTERS
from studies.toy_stage1 import CAUSE, OBJECTS, ToyStage1, learned_depth, toy_streets

NAME = "stage_1_report"
VARIANTS = (
    ("CAUSE, 27 clusters + connected components", "cause_cc"),
    (f"overclusters, k = {CLUSTERS} + connected components", "overclusters_cc"),
    ("overclusters + depth edges inside each class", "overclusters_depth_classes"),
    ("overclusters + objects proposed by depth", "overclusters_depth"),
    ("overclusters + objects proposed by learned depth", "overclusters_learned_depth"),
    ("the same objects with classes of their own", OBJECTS),
    ("overclusters + slots of DINOSAUR", "overclusters_dinosaur"),
    ("overclusters, refined + objects proposed by depth", "refined_depth"),
)
"""Printed name and result file of each set of labels."""

COLUMNS = (
    ("CAUSE + components", "cause_cc"),
    ("overclusters + components", "overclusters_cc"),
    ("overclusters + depth", "overclusters_depth"),
    ("overclusters + slots", "overclusters_dinosaur"),
)
FOLDERS = (
    *("cause_heads", CAUSE, OVERCLUSTERS, "depth_spidepth", "pseudo_instance_depth_guided"),
    *("pseudo_instance_learned_depth", "pseudo_instance_dinosaur", refined_folder(OVERCLUSTERS)),
)

BROKEN_OBJECTS = (
    "Overclusters of textons follow colours: body, windows and shadow of a car are different pseudo-classes "
    "(picture). An edge inside a class can cut such a piece, never join two; a proposal by depth takes the "
    "whole."
)
"""Why splitting inside classes fails where it does."""

NO_OBJECTS_IN_SLOTS = (
    "DINOSAUR needs features that tell what belongs together (Seitzer et al., ICLR 2023, reconstruct "
    "self-supervised ones, since colours do not do); textons tell colour and texture. On the demo's city, "
    "five times the steps with a coarser grid of positions (6x12) made slots of places, as road, sky and the "
    "sides of the street: PQ things 0.3 on its training frames. With DINOv3 features it was not run here."
)
"""Why slots find nothing on textons."""

CLAIMS = (
    ("objects proposed by depth", "depth", "overclusters_depth", ""),
    ("depth edges inside each class", "depth", "overclusters_depth_classes", BROKEN_OBJECTS),
    ("objects proposed by learned depth, no stereo,", "learned depth", "overclusters_learned_depth", ""),
    ("learned depth and classes of whole objects", "classes of objects", OBJECTS, ""),
    ("slots of DINOSAUR on textons", "slots", "overclusters_dinosaur", NO_OBJECTS_IN_SLOTS),
)
"""What is claimed to beat connected components: claim, printed name, result file, why it may fail."""

IN_CLASSES = ("--proposals", "classes")
"""Regions of each class alone, as published; the default for clusters joins them."""

PUBLISHED = (
    (
        "overclusters (k = 300) + connected components",
        "PQ 25.6, PQ things 15.2, PQ stuff 33.1, mIoU 60.7",
        "19 classes, clusters named with ground truth before evaluation",
        "project description of the pipeline that this repository rebuilds",
        "C",
    ),
    (
        "connected components / + depth edges (SPIdepth)",
        "PQ 23.1 / 26.7, PQ things 14.9 / 19.4, PQ stuff 28.2 / 32.1",
        "19 classes, clusters named with ground truth, one seed",
        "public research repository of the same pipeline, no paper",
        "C",
    ),
    (
        "CUPS, trained network (for scale)",
        "PQ 27.8, PQ things 17.7, PQ stuff 35.1",
        "19 classes, 27 pseudo-classes, Hungarian matching, upstream void rule, stereo video",
        "Hahn et al., CVPR 2025",
        "A",
    ),
)


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments."""
    result = [toy_streets(runs), *learned_depth(runs)]
    for seed in runs.seeds:
        run = ToyStage1(runs, seed)
        result += run.semantics()
        result += [
            run.features(),
            *run.refined(OVERCLUSTERS),
            *run.slots(),
            run.instances(CAUSE, "cause_cc", "--no_depth", *IN_CLASSES),
            run.instances(OVERCLUSTERS, "cc", "--no_depth", *IN_CLASSES),
            run.instances(OVERCLUSTERS, "depth_classes", *IN_CLASSES),
            run.proposed_objects(),
            run.learned_thing_split(),
            run.learned_objects(),
            run.instances(refined_folder(OVERCLUSTERS), "refined_depth"),
            run.panoptic_scores("cause_cc", CAUSE, 27, "cause_cc"),
            run.panoptic_scores("overclusters_cc", OVERCLUSTERS, CLUSTERS, "cc"),
            run.panoptic_scores("overclusters_depth_classes", OVERCLUSTERS, CLUSTERS, "depth_classes"),
            run.panoptic_scores("overclusters_depth", OVERCLUSTERS, CLUSTERS, "depth_guided"),
            run.learned_scores(),
            run.object_classes(),
            run.object_scores(),
            run.panoptic_scores("overclusters_dinosaur", OVERCLUSTERS, CLUSTERS, "dinosaur"),
            run.panoptic_scores("refined_depth", refined_folder(OVERCLUSTERS), CLUSTERS, "refined_depth"),
        ]
    return result


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return the sheet of labels of the first seed, if they were made."""
    sheet = label_sheet(runs, runs.seeds[0], COLUMNS)
    return {} if sheet is None else {NAME: sheet}


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    files = [file for _, file in VARIANTS]
    question = "What does each step of Stage 1 cost, what is it worth, and did any of them see ground truth?"
    verdicts = [
        judge_runs(
            runs,
            f"{claim} beat connected components on PQ things",
            (name, file),
            ("components", "overclusters_cc"),
            "pq_things",
            why=why,
        )
        for claim, name, file, why in CLAIMS
    ]
    provenance = [(f"`{folder}`", fact(runs.uses_ground_truth(folder))) for folder in FOLDERS]
    return f"""{header("Stage 1 on toy streets", question, runs, NAME)}

## Verdict

{verdict_list(verdicts)}

{RULE}

## Labels

{metrics_table(NAME, runs, VARIANTS)}

Void rule: standard (a predicted void pixel is an error). The same under the rule of the published figures:

{metrics_table(NAME, runs, VARIANTS, void_rule="upstream")}

{protocols(runs, files)}

{picture_link(NAME, "labels of validation frames, seed " + str(runs.seeds[0]), drawn)}

## Ground truth used

{table(NAME, provenance, ("folder", "used ground truth"))}

As each folder's `provenance.json` says, over all seeds and everything upstream.

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

Peak memory is that of a step's largest process. Learned depth is that of
`refs/spidepth/toy`, written once for all seeds.

## Published figures

{published_table(NAME, PUBLISHED)}
"""
