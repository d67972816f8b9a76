"""Report: instances by depth splitting against connected components, over a grid of settings."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cups.io.png import read_image
from pseudo_labels.scoring.instance_sweep import Configuration
from pseudo_labels.scoring.sweep_report import METRICS, ranked_rows, write_heat_map
from pseudo_labels.steps.stage1 import Command
from studies.reports.pictures import picture_link
from studies.reports.text import (
    RULE_WITHOUT_ROWS,
    header,
    judge,
    published_table,
    spread,
    steps_summary,
    table,
    verdict_list,
)
from studies.toy_runs import ToyRuns
from studies.toy_settings import MIN_AREA, OVERCLUSTERS
from studies.toy_stage1 import (
    GRAD_THRESHOLD,
    LOW_STEP,
    SWEEPS,
    ToyStage1,
    learned_depth,
    sweep_folder,
    toy_streets,
)

NAME = "overclustered_spidepth_sweep"
COMPONENTS = Configuration(None, MIN_AREA)
NOTE = (
    "Overclusters of textons follow colours, so that the parts of an object lie in different pseudo-classes: "
    "an edge cuts pieces and joins none."
)
"""Why splitting fails where it does."""

PUBLISHED = (
    (
        "connected components / + depth edges (SPIdepth, threshold 0.20, area 1000)",
        "PQ things 14.9 / 19.4",
        "19 classes, clusters named with ground truth, one seed",
        "public research repository of the same pipeline, no paper",
        "C",
    ),
    (
        "connected components on overclusters, k = 300",
        "PQ things 15.2",
        "19 classes, clusters named with ground truth",
        "description of the published pipeline that this repository rebuilds",
        "C",
    ),
    (
        "depth source hardly matters: ZoeDepth / self-supervised / MiDaS",
        "mask AP 9.1 / 9.1 / 8.9",
        "COCO val, class-agnostic, CutS3D",
        "Sick et al., ICCV 2025, quoted by a paper note",
        "B",
    ),
)

Scores = Mapping[Configuration, Mapping[int, float]]
"""Configuration -> seed -> value."""


def steps(runs: ToyRuns) -> list[Command]:
    """Return the experiments."""
    result = [toy_streets(runs), *learned_depth(runs)]
    for seed in runs.seeds:
        run = ToyStage1(runs, seed)
        result += [*run.semantics(), run.learned_thing_split(), *map(run.sweep, SWEEPS)]
    return result


def sweep_rows(runs: ToyRuns, name: str, void_rule: str) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of a sweep under one void rule, by seed."""
    contents = runs.content(f"{sweep_folder(name)}/sweep.json")
    return {
        seed: [row for row in content["rows"] if row["void_rule"] == void_rule]
        for seed, content in contents.items()
    }


def sweep_scores(runs: ToyRuns, name: str, metric: str, void_rule: str = "standard") -> Scores:
    """Return a metric of all configurations of a sweep."""
    scores: dict[Configuration, dict[int, float]] = {}
    for seed, rows in sweep_rows(runs, name, void_rule).items():
        for row in rows:
            value = float("nan") if row[metric] is None else float(row[metric])
            scores.setdefault(Configuration(row["grad_threshold"], row["min_area"]), {})[seed] = value
    return scores


def mean(values: Mapping[int, float]) -> float:
    """Return the mean over the seeds."""
    return float(np.mean(list(values.values())))


def heat_map(runs: ToyRuns, name: str) -> np.ndarray | None:
    """Draw the mean over the seeds of PQ and PQ things: (H, W, 3) uint8, None where the sweep was not run."""
    rules = {
        rule: {metric: sweep_scores(runs, name, metric, rule) for metric in METRICS}
        for rule in ("standard", "upstream")
    }
    configurations = list(rules["standard"]["pq"])
    if not configurations:
        return None
    means = [
        {
            rule: {metric: mean(scores[one]) for metric, scores in metrics.items()}
            for rule, metrics in rules.items()
        }
        for one in configurations
    ]
    seeds = ", ".join(map(str, rules["standard"]["pq"][configurations[0]]))
    title = f"Toy streets, {SWEEPS[name].words}, mean over the seeds {seeds}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heat_map.png"
        write_heat_map(path, ranked_rows(configurations, means), title, fixed(name))
        return read_image(path)


def pictures(runs: ToyRuns) -> Mapping[str, np.ndarray]:
    """Return the heat maps of the sweeps that were run."""
    drawn = {f"{NAME}_{name}": heat_map(runs, name) for name in SWEEPS}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def fixed(name: str) -> Configuration:
    """Return the configuration of a sweep that was chosen beforehand."""
    return Configuration(SWEEPS[name].fixed, MIN_AREA)


def fixed_table(runs: ToyRuns) -> str:
    """Return the scores of the settings fixed beforehand and of components with the same least area."""
    metrics = ("pq", "pq_things", "sq_things", "rq_things")
    rows = {}
    for name, sweep in SWEEPS.items():
        scores = [sweep_scores(runs, name, metric) for metric in metrics]
        for words, one in ((sweep.baseline, COMPONENTS), (sweep.words, fixed(name))):
            # Two sweeps may share a baseline.
            rows[words] = [spread(values.get(one, {}), runs.seeds) for values in scores]
    cells = [(words, *row) for words, row in rows.items()]
    return table(NAME, cells, ("", "PQ", "PQ things", "SQ things", "RQ things"))


def grid_sentence(runs: ToyRuns, name: str) -> str:
    """Say how many settings of the grid beat components of the same least area, by means over the seeds."""
    scores = {one: mean(values) for one, values in sweep_scores(runs, name, "pq_things").items()}
    grid = [one for one in scores if one.grad_threshold is not None]
    if not grid:
        return f"- {SWEEPS[name].words}: not run."
    gains = [scores[one] - scores[Configuration(None, one.min_area)] for one in grid]
    better = sum(gain > 0 for gain in gains)
    return (
        f"- {SWEEPS[name].words}: {better} of {len(grid)} settings beat connected components of the same "
        f"least area on PQ things; differences {100 * min(gains):+.2f} to {100 * max(gains):+.2f}."
    )


def render(runs: ToyRuns, drawn: Sequence[str]) -> str:
    """Return the report as Markdown."""
    question = "Does depth make better instances of thing regions than connected components alone?"
    verdicts = []
    for name, sweep in SWEEPS.items():
        scores = sweep_scores(runs, name, "pq_things")
        claim = f"depth beats connected components on PQ things ({sweep.words})"
        depth, components = (
            ("depth", scores.get(fixed(name), {})),
            ("components", scores.get(COMPONENTS, {})),
        )
        verdicts.append(judge(claim, depth, components, "PQ things", why=NOTE))
    links = "\n\n".join(
        picture_link(f"{NAME}_{name}", f"PQ and PQ things over the grid, {sweep.words}", drawn)
        for name, sweep in SWEEPS.items()
    )
    sentences = "\n".join(grid_sentence(runs, name) for name in SWEEPS)
    return f"""{header("Overclusters and depth: sweep of instance splitting", question, runs, NAME)}

Semantics: `{OVERCLUSTERS}`; depth from disparity, or, where it says so, from a network that learned from
video of another toy city (`refs/spidepth/toy`). One matching of pseudo-classes to classes serves all settings
of a sweep, so they differ by their instances only.

## Verdict

For settings that were fixed beforehand (depth step {GRAD_THRESHOLD:g}, with learned depth {LOW_STEP:g}; least
area {MIN_AREA} pixels of a 512-row image):

{verdict_list(verdicts)}

{RULE_WITHOUT_ROWS}

{fixed_table(runs)}

## Grid

The grid is shown to see how much the setting matters; its best cell is chosen with ground truth and claims
nothing.

{sentences}

{links}

## Time and memory

{steps_summary(NAME, runs.done(steps(runs)))}

## Published figures

{published_table(NAME, PUBLISHED)}
"""
