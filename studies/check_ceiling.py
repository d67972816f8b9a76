#!/usr/bin/env python3
"""Oracle check: train Stage 2 on toy ground truth, at the demo's budget and at a long one.

With perfect labels nothing but the machinery limits the score. Finished steps are remembered.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cups.config import build_config
from cups.errors import run_main
from cups.evaluation.results import class_table, read_results, results_table
from cups.io.files import write_text
from cups.io.provenance import code_version
from studies.commands import ROOT, Step, run_steps
from studies.demo import CONFIG, training_step, validation_step
from studies.measure import machine_line, steps_table

CEILING = ROOT / "configs" / "ceiling_toy.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    budgets = [build_config(config).TRAINING.STEPS for config in (CONFIG, CEILING)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "ceiling", help="folder of the check")
    parser.add_argument("--budgets", type=int, nargs="+", default=budgets, help="training steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of training")
    args = parser.parse_args(argv)

    output = args.output.resolve()
    data, labels = output / "toy_streets", output / "ground_truth_labels"
    steps = [
        Step("toy streets", "cups.data.toy_streets", ("--output", str(data))),
        Step(
            "labels",
            "studies/ground_truth_to_cups.py",
            ("--cityscapes_root", str(data), "--output_dir", str(labels)),
        ),
    ]
    for budget in args.budgets:
        name = f"steps_{budget}"
        pairs = ("TRAINING.STEPS", str(budget), "SYSTEM.SEED", str(args.seed))
        steps.append(training_step(f"train, {budget} steps", data, labels, output, name, pairs, CEILING))
        steps.append(validation_step(f"evaluate, {budget} steps", data, output, name, pairs, CEILING))
    records = run_steps(steps, output / "steps", "check")

    results = [read_results(output / f"steps_{budget}_val" / "results.json") for budget in args.budgets]
    rows = [result for pair in zip(*results, strict=True) for result in pair if "pq" in result.metrics]
    text = f"""# Oracle check: Stage 2 trained on toy ground truth

{code_version()}, seed {args.seed}. The training labels are the ground truth: what is
missing to a perfect score is missing in the machinery or the budget, not in the labels.

{results_table(rows)}

## Classes at {args.budgets[-1]} steps

{class_table(results[-1][0])}

## Time and memory

{steps_table(records)}

{machine_line()}.
"""
    path = output / "report.md"
    write_text(path, text)
    print(text)
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    run_main(main)
