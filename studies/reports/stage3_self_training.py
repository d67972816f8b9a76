"""Report: what self-training adds to Stage 2, round by round, and what each of its parts is worth."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from yacs.config import CfgNode

from cups.config import build_config
from cups.metrics.found_objects import found_by_size
from cups.metrics.protocol import VoidRule
from pseudo_labels.steps.stage1 import Command
from studies.reports.pictures import class_sheet, label_classes, picture_link, predicted_classes
from studies.reports.text import (
    NOT_RUN,
    RULE,
    Verdict,
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
from studies.toy_settings import CONFIG, LABELS
from studies.toy_training import PSEUDO_LABELS, ROUNDS, ToyTraining, network_result, prediction_folder

NAME = "stage3_self_training"
STAGES = (
    ("pseudo-labels", PSEUDO_LABELS),
    ("Stage 2", network_result("stage2")),
    ("Stage 3", network_result("stage3")),
)
"""Printed name and result file of each stage; of Stage 3 the round that is kept."""


def round_result(number: int) -> str:
    """Return the result file of a round of the full method."""
    return network_result(f"stage3_round_{number}")


ROUND_ROWS = (
    ("before (Stage 2)", network_result("stage2")),
    *((f"round {number}", round_result(number)) for number in range(1, ROUNDS + 1)),
    ("kept round", network_result("stage3")),
)
PLAIN = ("MODEL.SNAP_TO_REGIONS", "False")
"""The semantic output as the network gives it, without the edges of the image."""
PLAIN_RUNS = (("Stage 2", "stage2", "last"), ("Stage 3", "stage3", "best"))
EDGE_ROWS = tuple(
    row
    for name, run_name, _ in PLAIN_RUNS
    for row in (
        (name, network_result(run_name)),
        (f"{name}, without edges", network_result(f"{run_name}_plain")),
    )
)
ABLATIONS = (
    ("no agreement of the teacher's heads", "stage3_no_agreement", ("MODEL.SEMANTIC_WEIGHT", "0.0")),
    ("no test-time augmentation", "stage3_no_tta", ("SELF_TRAINING.USE_TTA", "False")),
    ("no average (the teacher is the student)", "stage3_no_ema", ("SELF_TRAINING.EMA_MOMENTUM", "0.0")),
    ("no confidence step", "stage3_no_step", ("SELF_TRAINING.CONFIDENCE_STEP", "0.0")),
    ("most probable classes, not drawn ones", "stage3_no_draw", ("SELF_TRAINING.DRAW_CLASSES", "False")),
)
"""Printed name, run, and what differs from the full method."""

ABLATION_ROWS = (
    ("full method", round_result(ROUNDS)),
    *((name, network_result(run_name)) for name, run_name, _ in ABLATIONS),
)
EARLIER = (
    "Settings were chosen on the demo's city: classes of objects, image edges for stuff, the score of an "
    "object that all things give together and both heads agree on, and lengths and rates of both stages. "
    "Three things were found on cities that earlier recipes were reported on: that objects which only the "
    "box head sees harm self-training (data seed 1), that drawing the classes of objects helps it (data seed "
    "3), and that 1800 steps of Stage 2 do better than 1200 (data seed 9, one training). This one "
    "was rendered when the recipe was fixed."
)
"""What was known when the settings were fixed."""

PUBLISHED = (
    (
        "CUPS without / with self-training",
        "PQ 26.6 / 27.8",
        "19 classes, 27 pseudo-classes, Hungarian matching, upstream void rule, stereo video",
        "Hahn et al., CVPR 2025, table 7c, quoted by a paper note",
        "B",
    ),
    (
        "Stage 2 / Stage 3, DINO ResNet-50, monocular labels",
        "PQ 24.7 / 25.9",
        "27 classes, one seed, resolution not told, checkpoint chosen on val",
        "public research repository of the same pipeline, no paper",
        "C",
    ),
)


SIZES = (200, 800, 1600)
"""Areas in pixels that divide true objects: a car of the middle distance has some 800."""
SIZE_NAMES = ("tiny", "small", "middle", "large")
RULES: tuple[tuple[VoidRule, str], ...] = (
    ("standard", ""),
    ("upstream", ", void rule of the published figures"),
)


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments."""
    result = []
    for seed in runs.seeds:
        run = ToyTraining(runs, seed)
        result += [
            *run.label_steps(),
            *run.long_stage2(),
            *run.best_stage3(),
        ]
        for name, run_name, checkpoint in PLAIN_RUNS:
            file = run.commands.checkpoint(run_name, checkpoint)
            result.append(run.evaluation(f"{name}, without edges", f"{run_name}_plain", file, PLAIN))
        for number in range(1, ROUNDS + 1):
            name = f"Stage 3, round {number}"
            result.append(run.round_evaluation(name, "stage3", f"stage3_round_{number}", f"round_{number}"))
        for name, run_name, pairs in ABLATIONS:
            title = f"Stage 3, {name}"
            result.append(run.stage3(title, run_name, pairs))
            result.append(run.round_evaluation(title, run_name, run_name, f"round_{ROUNDS}"))
    return result


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return labels and predictions of validation frames of the first seed, if all stages were run."""
    seed = runs.seeds[0]
    found = [runs.results(file).get(seed) for _, file in STAGES]
    labels, stage2, stage3 = found
    if labels is None or stage2 is None or stage3 is None:
        return {}
    columns = {
        "pseudo-labels": partial(label_classes, runs.root(seed), labels),
        "Stage 2": partial(predicted_classes, prediction_folder(runs, seed, "stage2"), stage2),
        "Stage 3": partial(predicted_classes, prediction_folder(runs, seed, "stage3"), stage3),
    }
    return {NAME: class_sheet(runs, columns)}


def choices(runs: ToyRuns) -> dict[int, dict[str, Any]]:
    """Return how the round was chosen, by seed: criterion, round and value of each checkpoint."""
    results = runs.results(network_result("stage3"))
    found = {seed: result.provenance.get("checkpoint_choice") for seed, result in results.items()}
    return {seed: choice for seed, choice in found.items() if choice}


def choice_table(runs: ToyRuns) -> str:
    """Return criterion and PQ of the network before each round and after it, and the chosen round."""
    names = ["before", *(f"round_{number}" for number in range(1, ROUNDS + 1))]
    found = dict(sorted(choices(runs).items()))
    if not found:
        return table(NAME, [(name, NOT_RUN) for name, _ in ROUND_ROWS], ("", "criterion / PQ"))
    rows = []
    for name, (title, file) in zip(names, ROUND_ROWS[:-1], strict=True):
        scores = runs.values(file, "pq")
        pairs = [(choice.get("values", {}).get(name), scores.get(seed)) for seed, choice in found.items()]
        rows.append((title, *(" / ".join(map(_percent, pair)) for pair in pairs)))
    rows.append(("kept round", *(choice["round"] for choice in found.values())))
    return table(NAME, rows, ("", *(f"seed {seed}" for seed in found)))


def selection(runs: ToyRuns, keys: CfgNode) -> str:
    """Return which round is kept and why, as Markdown."""
    if keys.SELECT == "last":
        return "The last round is kept (`SELF_TRAINING.SELECT last`, as in CUPS): nothing is chosen."
    return f"""The round is chosen by `SELF_TRAINING.SELECT {keys.SELECT}`, on {keys.SELECT_FRAMES} held-out
training frames. What that criterion said, and PQ on the validation split, which it never saw (percent):

{choice_table(runs)}"""


def sizes(runs: ToyRuns) -> str:
    """Return which share of the true objects of each size a stage finds, as Markdown."""
    found = {
        file: {seed: found_by_size(scored, SIZES) for seed, scored in runs.rows(file).items()}
        for _, file in STAGES
    }
    # The frames are the same for every seed and stage, and so are the objects.
    objects = next((counts[0].tolist() for stage in found.values() for counts in stage.values()), None)
    parts = zip(SIZE_NAMES, (0, *SIZES), objects or [NOT_RUN] * len(SIZE_NAMES), strict=True)
    told = "; ".join(f"{name}, from {least} pixels on ({count})" for name, least, count in parts)
    rows = [
        (title, *(spread(_shares(found[file], size), runs.seeds) for size in range(len(SIZE_NAMES))))
        for title, file in STAGES
    ]
    return f"""Share of the true objects that a predicted object covers with IoU above 0.5, whatever its
class (percent). Sizes, and how many objects: {told}.

{table(NAME, rows, ("", *SIZE_NAMES))}"""


def _shares(counts: Mapping[int, tuple[np.ndarray, np.ndarray]], size: int) -> dict[int, float]:
    return {seed: found[size] / max(1, everything[size]) for seed, (everything, found) in counts.items()}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"  # noqa: RUF001 - the dash is meant


def network_facts(runs: ToyRuns, run_name: str) -> dict[int, bool | None]:
    """Return what the checkpoint of a network says about ground truth, by seed."""
    results = runs.results(network_result(run_name))
    return {seed: result.provenance.get("uses_ground_truth") for seed, result in results.items()}


def verdicts(runs: ToyRuns) -> list[Verdict]:
    """Return the verdicts on the stages, and on each part of Stage 3."""
    stages = [
        judge_runs(
            runs,
            f"{better} beats {'its ' if worse == 'pseudo-labels' else ''}{worse} on PQ{note}",
            (better, better_file),
            (worse, worse_file),
            void_rule=rule,
        )
        for rule, note in RULES
        for (worse, worse_file), (better, better_file) in itertools.pairwise(STAGES)
    ]
    full, *ablated = ABLATION_ROWS
    parts = [
        judge_runs(
            runs,
            f"the full method beats the one with {name} on PQ, after round {ROUNDS}",
            ("full", full[1]),
            ("ablated", file),
        )
        for name, file in ablated
    ]
    return [*stages, *parts]


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    question = "Does self-training improve on Stage 2, when, and which of its parts does it owe that to?"
    config = build_config(CONFIG)
    keys, threshold = config.SELF_TRAINING, config.MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD
    scales = ", ".join(f"{scale:g}" for scale in config.MODEL.TTA_SCALES)
    provenance = [
        ("training labels", fact(runs.uses_ground_truth(LABELS))),
        ("Stage 2", fact(network_facts(runs, "stage2"))),
        ("Stage 3", fact(network_facts(runs, "stage3"))),
    ]
    ablated = runs.with_results(file for _, file in ABLATION_ROWS)
    files = dict.fromkeys(file for _, file in (*STAGES, *EDGE_ROWS, *ROUND_ROWS, *ABLATION_ROWS))
    return f"""{header("Self-training on toy streets", question, runs, NAME)}

## Verdict

{verdict_list(verdicts(runs))}

{RULE}

## Three stages

{metrics_table(NAME, runs, STAGES)}

Void rule: standard (a predicted void pixel is an error). The same under the rule of the published figures:

{metrics_table(NAME, runs, STAGES, void_rule="upstream")}

{protocols(runs, files)}

Stage 2 has {runs.steps} steps, the demo's {config.TRAINING.STEPS}. Networks are evaluated on the plain
frame, without test-time augmentation. Stage 3 is the student of the kept round (below). The score of an
instance is that of the box head, and with the weight {config.MODEL.SEMANTIC_WEIGHT:g} the mean probability of
things that the semantic head gives its pixels (`MODEL.SEMANTIC_WEIGHT`): in Stage 2, in Stage 3, and for its
teacher.

{EARLIER}

{picture_link(NAME, "labels and predictions of validation frames, seed " + str(runs.seeds[0]), drawn)}

## Objects by size

{sizes(runs)}

## Edges of the image

Labels are made of regions of even colour, at full resolution; a network's semantic output is four times
coarser. Averaged over the same regions (`MODEL.SNAP_TO_REGIONS`), it is compared like for like. The same
networks both ways (the teacher of Stage 3 had the edges):

{metrics_table(NAME, runs, EDGE_ROWS)}

## Rounds

A teacher, the average of the student's weights (momentum {keys.EMA_MOMENTUM:g}), labels clean frames; the
student learns from them on augmented ones. There are {ROUNDS} rounds of {keys.ROUND_STEPS} steps. In the
first an instance of the teacher must score {threshold:g}, in each further one {keys.CONFIDENCE_STEP:g} more.
The teacher averages views at scale {scales}, each mirrored too.

{metrics_table(NAME, runs, ROUND_ROWS)}

{selection(runs, keys)}

## Ablations

One part is left out, everything else stays. Compared after round {ROUNDS}, whatever round would be kept:
the first round does not know a confidence step.

{metrics_table(NAME, ablated, ABLATION_ROWS)}

Seeds with all of these runs: {", ".join(map(str, ablated.seeds))}.

## Ground truth used

{table(NAME, provenance, ("", "used ground truth"))}

As `provenance.json` and the checkpoints say, over all seeds and everything upstream, the choice of the round
included.

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

## Published figures

{published_table(NAME, PUBLISHED)}
"""
