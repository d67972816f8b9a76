"""Report: the training recipe of CUPS on toy streets, one part after another, as its table 7c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from yacs.config import CfgNode

from cups.config import build_config
from cups.config_keys import get
from pseudo_labels.steps.stage1 import Command
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
from studies.toy_settings import CONFIG, LABELS
from studies.toy_training import PSEUDO_LABELS, STAGE2, STAGE3, ToyTraining, network_result

NAME = "cups_ablations"
DROP_LOSS, COPY_PASTE = "TRAINING.DROP_LOSS", "AUGMENTATION.COPY_PASTE"
OWN_FINDS = "AUGMENTATION.NUM_STEPS_STARTUP"
NEVER = 1_000_000
"""Step from which finds are pasted, where none are to be."""
CUPS_STARTUP = 8
"""CUPS pastes labels alone for the first 1000 of its 8000 steps."""

PUBLISHED = tuple(
    (
        what,
        f"PQ {quality}",
        "19 classes, 27 pseudo-classes, Hungarian matching, upstream void rule, stereo video",
        "Hahn et al., CVPR 2025, table 7c, quoted by a paper note",
        "B",
    )
    for what, quality in (
        ("CUPS, vanilla training", "24.1"),
        ("+ DropLoss", "25.3"),
        ("+ copy-paste", "26.3"),
        ("+ self-enhanced copy-paste", "26.6"),
        ("+ self-training", "27.8"),
    )
)


@dataclass(frozen=True)
class Row:
    """A training of Stage 2 with some parts of the recipe.

    Attributes:
        name: printed.
        run_name: of a run of its own.
        pairs: what differs from the demo's configuration, `KEY VALUE` by turns; nothing: the row is the run
            that reports share.
    """

    name: str
    run_name: str
    pairs: tuple[str, ...]

    @property
    def run(self) -> str:
        """The run that the row's numbers come from."""
        return self.run_name if self.pairs else STAGE2


def stage2_rows(steps: int) -> tuple[Row, ...]:
    """Return the rows of Stage 2; each adds one part. `steps`: of the training."""
    config = build_config(CONFIG)
    own = int(config.AUGMENTATION.NUM_STEPS_STARTUP)
    never, finds = (own, steps // CUPS_STARTUP) if own >= steps else (NEVER, own)
    labels = {DROP_LOSS: True, COPY_PASTE: True, OWN_FINDS: never}
    return (
        _row(config, "vanilla", "ablation_vanilla", {DROP_LOSS: False, COPY_PASTE: False}),
        _row(config, "+ DropLoss", "ablation_drop_loss", {DROP_LOSS: True, COPY_PASTE: False}),
        _row(config, "+ copy-paste", "ablation_copy_paste", labels),
        _row(config, "+ self-enhanced copy-paste", "ablation_own_finds", {**labels, OWN_FINDS: finds}),
    )


def _row(config: CfgNode, name: str, run_name: str, settings: Mapping[str, object]) -> Row:
    others = {key: value for key, value in settings.items() if get(config, key) != value}
    return Row(name, run_name, tuple(str(part) for pair in others.items() for part in pair))


def self_training_run(rows: Sequence[Row]) -> str:
    """Return the run of the row behind those of Stage 2: Stage 3 from the last of them."""
    return STAGE3 if rows[-1].run == STAGE2 else "ablation_self_training"


def variants(runs: ToyRuns) -> list[tuple[str, str]]:
    """Return printed name and result file of each row."""
    rows = stage2_rows(runs.steps)
    trained = [(row.name, network_result(row.run)) for row in rows]
    return [*trained, ("+ self-training", network_result(self_training_run(rows)))]


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments; a row with the settings of the self-training report is its run."""
    result = []
    rows = stage2_rows(runs.steps)
    for seed in runs.seeds:
        run = ToyTraining(runs, seed)
        result += run.label_steps()
        for row in rows:
            shared = row.run == STAGE2
            title = "Stage 2" if shared else f"ablation, {row.name.removeprefix('+ ')}"
            result += run.long_stage2(title, row.run, row.pairs)
        last = self_training_run(rows)
        title = "Stage 3" if last == STAGE3 else "ablation, self-training"
        result += run.best_stage3(title, last, rows[-1].run)
    return result


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return nothing: the rows look alike."""
    return {}


def changes(runs: ToyRuns) -> str:
    """Return what each row of Stage 2 changes in the demo's configuration, as a Markdown list."""
    lines = []
    for row in stage2_rows(runs.steps):
        words = zip(row.pairs[::2], row.pairs[1::2], strict=True)
        text = ", ".join(f"`{key} {value}`" for key, value in words)
        lines.append(f"- {row.name}: {text or 'nothing: the run of the self-training report'}")
    return "\n".join(lines)


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    question = "What is each part of CUPS's training recipe worth, added one after another?"
    rows = variants(runs)
    verdicts = [
        judge_runs(runs, f"{name} beats the row before, {before}, on PQ", (name, file), (before, earlier))
        for (before, earlier), (name, file) in pairwise(rows)
    ]
    results = runs.results(rows[-1][1])
    provenance = [
        ("training labels", fact(runs.uses_ground_truth(LABELS))),
        ("last row", fact({s: result.provenance.get("uses_ground_truth") for s, result in results.items()})),
    ]
    keys = build_config(CONFIG).SELF_TRAINING
    return f"""{header("CUPS's training recipe on toy streets", question, runs, NAME)}

## Verdict

{verdict_list(verdicts)}

{RULE}

## Rows

{metrics_table(NAME, runs, [("pseudo-labels", PSEUDO_LABELS), *rows])}

Void rule: standard (a predicted void pixel is an error). The same under the rule of the published figures:

{metrics_table(NAME, runs, [("pseudo-labels", PSEUDO_LABELS), *rows], void_rule="upstream")}

{protocols(runs, [file for _, file in rows])}

Stage 2 has {runs.steps} steps in each row. All rows train on the same labels with the demo's network and
settings, but for

{changes(runs)}

Copy-paste takes objects from the labels; self-enhanced, from the named step on, those that the network finds
itself. Self-training starts from the row before it: {keys.ROUNDS} rounds of {keys.ROUND_STEPS} steps; the
round is kept that `SELF_TRAINING.SELECT {keys.SELECT}` says.

## Ground truth used

{table(NAME, provenance, ("", "used ground truth"))}

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

## Published figures

{published_table(NAME, PUBLISHED)}
"""
