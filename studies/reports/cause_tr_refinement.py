"""Report: plain CAUSE against its overclusters, and against RefineNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cups.io.png import read_ids, read_image
from pseudo_labels.steps.stage1 import Command, refined_folder
from studies.reports.pictures import label_sheet, picture_link
from studies.reports.text import (
    NOT_RUN,
    RULE_WITHOUT_ROWS,
    header,
    judge,
    protocols,
    published_table,
    spread,
    steps_summary,
    table,
    verdict_list,
)
from studies.toy_runs import ToyRuns
from studies.toy_settings import CLUSTERS, OVERCLUSTERS
from studies.toy_stage1 import CAUSE, KS, MERGED, ToyStage1, toy_streets

NAME = "cause_tr_refinement"
VARIANTS = (
    ("CAUSE, 27 clusters", "semantic_cause"),
    ("CAUSE, 27 clusters + RefineNet", "semantic_cause_refined"),
    (f"overclusters, k = {CLUSTERS}, merged to 27", "semantic_merged"),
    (f"overclusters, k = {CLUSTERS}", "semantic_overclusters"),
    (f"overclusters, k = {CLUSTERS} + RefineNet", "semantic_overclusters_refined"),
)
"""Printed name and result file of each set of semantics."""

ANALYSIS = "overclustering_codes/analysis.json"
"""Written by `overclustering_cause.py` into the folder of a seed."""

MATCHINGS = ("one-to-one", "joint", "many-to-one")
MATCHING = "joint"
"""Hungarian, left-over clusters to their best class: the matching that panoptic quality uses too."""

COLUMNS = (
    ("CAUSE", f"semantic_cause, {MATCHING}"),
    ("CAUSE + RefineNet", f"semantic_cause_refined, {MATCHING}"),
    ("overclusters", f"semantic_overclusters, {MATCHING}"),
    ("overclusters + RefineNet", f"semantic_overclusters_refined, {MATCHING}"),
)
PUBLISHED = (
    (
        "CAUSE-TR, DINOv2 ViT-B/14",
        "mIoU 29.9, accuracy 89.8",
        "27 classes, 27 clusters, one-to-one matching, 320x320 centre crop, CRF",
        "Kim et al., Pattern Recognition 2024, and its code",
        "A",
    ),
    (
        "CUPS, trained network",
        "mIoU 26.8, accuracy 83.2",
        "27 classes, 320x320 centre crop",
        "Hahn et al., CVPR 2025, quoted by a paper note",
        "B",
    ),
    (
        "CAUSE-TR, 27 clusters / k = 300 overclusters",
        "mIoU 40.4 / 60.7",
        "19 classes; the clusters were named with ground truth, each by its majority class",
        "description of the published pipeline that this repository rebuilds",
        "C",
    ),
)


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments."""
    result = [toy_streets(runs)]
    for seed in runs.seeds:
        run = ToyStage1(runs, seed)
        result += [
            *run.semantics(),
            run.merged(),
            run.overclustering(),
            run.semantic_scores("semantic_cause", CAUSE, 27),
            run.semantic_scores("semantic_merged", MERGED, 27),
            run.semantic_scores("semantic_overclusters", OVERCLUSTERS, CLUSTERS),
            run.features(),
            *run.refined(CAUSE),
            *run.refined(OVERCLUSTERS),
            run.semantic_scores("semantic_cause_refined", refined_folder(CAUSE), 27),
            run.semantic_scores("semantic_overclusters_refined", refined_folder(OVERCLUSTERS), CLUSTERS),
        ]
    return result


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return the sheet of semantics of the first seed, if they were made."""
    sheet = label_sheet(runs, runs.seeds[0], COLUMNS)
    plot = (runs.root(runs.seeds[0]) / ANALYSIS).with_suffix(".png")
    drawn = {NAME: sheet, f"{NAME}_k": read_image(plot) if plot.is_file() else None}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def over_k(runs: ToyRuns) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the scores of clusters of CAUSE codes: row ("plain CAUSE", "k = 27", ...) -> seed -> score."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for seed, content in runs.content(ANALYSIS).items():
        for score in content["scores"]:
            rows.setdefault(score["name"], {})[seed] = score
    return rows


def code_miou(row: Mapping[int, Mapping[str, Any]], matching: str = MATCHING) -> dict[int, float]:
    """Return the mIoU of a row of `over_k` by seed, clusters matched on the training frames."""
    found = {seed: score["miou"]["train"].get(matching) for seed, score in row.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def over_k_table(runs: ToyRuns) -> str:
    """Return mIoU under each matching, classes recovered and purity over k."""
    rows = [
        (
            name,
            *(spread(code_miou(row, matching), runs.seeds) for matching in MATCHINGS),
            f"{np.mean([len(score['recovered']) for score in row.values()]):.1f}",
            spread({seed: score["purity"] for seed, score in row.items()}, runs.seeds),
        )
        for name, row in over_k(runs).items()
    ] or [(NOT_RUN, "", "", "", "", "")]
    columns = ("clusters of CAUSE codes", "mIoU one-to-one", "mIoU", "mIoU many-to-one")
    return table(NAME, rows, (*columns, "classes recovered", "purity"))


def changed(runs: ToyRuns, semantics: str) -> dict[int, float]:
    """Return the share of validation pixels (0-1) that RefineNet labels otherwise than its input, by seed."""
    shares = {}
    for seed in runs.seeds:
        before, after = (runs.root(seed) / name / "val" for name in (semantics, refined_folder(semantics)))
        files = sorted(after.glob("*/*.png"))
        if files:
            pairs = ((read_ids(file), read_ids(before / file.relative_to(after))) for file in files)
            shares[seed] = float(np.mean([(one != other).mean() for one, other in pairs]))
    return shares


def miou(runs: ToyRuns, file: str) -> dict[int, float]:
    """Return the mIoU of an evaluation by seed."""
    return runs.values(f"{file}, {MATCHING}", "miou")


def semantics_table(runs: ToyRuns) -> str:
    """Return mIoU under each matching, and accuracy, of all variants."""
    measures = [("one-to-one", "miou"), (MATCHING, "miou"), ("many-to-one", "miou"), (MATCHING, "accuracy")]
    rows = [
        (
            name,
            *(
                spread(runs.values(f"{file}, {matching}", metric), runs.seeds)
                for matching, metric in measures
            ),
        )
        for name, file in VARIANTS
    ]
    return table(NAME, rows, ("", "mIoU one-to-one", "mIoU", "mIoU many-to-one", "accuracy"))


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    question = (
        "Do overclusters fit the classes better than the 27 clusters of CAUSE, and does RefineNet improve "
        "its input?"
    )
    cause = ("CAUSE", miou(runs, "semantic_cause"))
    overclusters = ("overclusters", miou(runs, "semantic_overclusters"))
    codes = over_k(runs)
    largest = f"k = {KS[-1]}"
    verdicts = [
        judge(
            f"overclustering the codes of CAUSE beats plain CAUSE on mIoU ({largest}, the published number)",
            ("overclusters of codes", code_miou(codes.get(largest, {}))),
            ("CAUSE", code_miou(codes.get("plain CAUSE", {}))),
            "mIoU",
        ),
        judge(
            f"the demo's overclusters (features in context, k = {CLUSTERS}) beat plain CAUSE on mIoU",
            overclusters,
            cause,
            "mIoU",
        ),
        judge(
            "they do so merged to equally many pseudo-classes, 27",
            ("merged overclusters", miou(runs, "semantic_merged")),
            cause,
            "mIoU",
        ),
        judge(
            "RefineNet beats its input on mIoU, input CAUSE",
            ("refined", miou(runs, "semantic_cause_refined")),
            cause,
            "mIoU",
        ),
        judge(
            "RefineNet beats its input on mIoU, input overclusters",
            ("refined", miou(runs, "semantic_overclusters_refined")),
            overclusters,
            "mIoU",
        ),
    ]
    return f"""{header("CAUSE-TR: overclustering and refinement", question, runs, NAME)}

## Verdict

{verdict_list(verdicts)}

{RULE_WITHOUT_ROWS} More clusters can follow the classes more finely; the third verdict compares equally many.

## Semantics

{semantics_table(runs)}

Standard void rule. Clusters are matched to classes on the training frames and scored on the validation
frames: matched on the frames that are scored, many clusters would flatter themselves. One-to-one: left-over
clusters are void. mIoU and accuracy without a name: left-over clusters take their best class. Many-to-one:
every cluster does.

{protocols(runs, [f"{file}, {MATCHING}" for _, file in VARIANTS])}

{picture_link(NAME, "semantics of validation frames, seed " + str(runs.seeds[0]), drawn)}

Pixels of the validation frames that get another id from RefineNet than their label was, in percent: CAUSE
{spread(changed(runs, CAUSE), runs.seeds)}, overclusters {spread(changed(runs, OVERCLUSTERS), runs.seeds)}.

## Clusters of CAUSE codes over k

{over_k_table(runs)}

Classes recovered: those with an IoU above 10 % (many-to-one), mean over the seeds.

{picture_link(NAME + "_k", "clusters of CAUSE codes over k, seed " + str(runs.seeds[0]), drawn)}

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

## Published figures

{published_table(NAME, PUBLISHED)}
"""
