"""Oracle check: train Stage 2 on toy ground truth, at the demo's budget and at a long one.

With perfect labels nothing but the machinery limits the score. Finished steps are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, SEED
from cups.errors import run_main
from pseudo_labels.steps.flags import Settings, flag, parse
from pseudo_labels.steps.stage1 import ROOT, Command
from studies.commands import check_streets, run_steps, toy_streets
from studies.measure import StepRecord
from studies.toy_settings import CONFIG, FRAMES
from studies.training_commands import TrainingCommands

CEILING = ROOT / "configs" / "ceiling_toy.yaml"


@dataclass(frozen=True)
class CeilingSettings(Settings):
    """Oracle check."""

    output: Path = flag(ROOT / "runs" / "ceiling", "folder of the check")
    budgets: tuple[int, ...] | None = flag(
        None, f"training steps (default: those of {CONFIG.name} and {CEILING.name})", allowed=COUNT
    )
    seed: int = flag(0, "seed of training", allowed=SEED)


def steps(output: Path, budgets: Sequence[int], seed: int) -> list[Command]:
    """Return the commands of the check, in order."""
    data, labels = output / "toy_streets", output / "ground_truth_labels"
    arguments = ("--cityscapes_root", str(data), "--output_dir", str(labels))
    training = TrainingCommands(data, output, config=CEILING)
    commands = [toy_streets(data), Command("labels", "studies/ground_truth_to_cups.py", arguments)]
    for budget in budgets:
        name = f"steps_{budget}"
        pairs = ("TRAINING.STEPS", str(budget), "SYSTEM.SEED", str(seed))
        commands.append(training.stage2(f"train, {budget} steps", labels, name, pairs))
        commands.append(training.evaluation(f"evaluate, {budget} steps", name, pairs=pairs))
    return commands


def report(output: Path, budgets: Sequence[int], seed: int, records: Sequence[StepRecord]) -> str:
    """Return the check's report, Markdown."""
    from cups.evaluation.results import class_table, read_results, results_table
    from cups.io.provenance import code_version
    from studies.measure import machine_line, steps_table

    results = [read_results(output / f"steps_{budget}_val" / "results.json") for budget in budgets]
    rows = [result for pair in zip(*results, strict=True) for result in pair if "pq" in result.metrics]
    return f"""# Oracle check: Stage 2 trained on toy ground truth

{code_version()}, seed {seed}. The training labels are the ground truth: what is
missing to a perfect score is missing in the machinery or the budget, not in the labels.

{results_table(rows)}

## Classes at {budgets[-1]} steps

{class_table(results[-1][0])}

## Time and memory

{steps_table(records)}

{machine_line()}.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and write its report."""
    (settings,) = parse(__doc__, argv, CeilingSettings)
    from cups.config import build_config  # after parsing: --help is quick
    from cups.io.files import write_text

    budgets = settings.budgets or [build_config(config).TRAINING.STEPS for config in (CONFIG, CEILING)]
    output = settings.output.resolve()
    check_streets(output / "toy_streets", FRAMES, "choose another `output`")
    records = run_steps(steps(output, budgets, settings.seed), output / "steps", "check")
    text = report(output, budgets, settings.seed, records)
    path = output / "report.md"
    write_text(path, text)
    print(text)
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    run_main(main)
