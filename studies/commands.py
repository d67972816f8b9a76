"""Commands run one after another, each measured and remembered: what demo, checks and reports are made of."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.measure import StepRecord, config_digests, read_step, run_measured

ROOT = Path(__file__).resolve().parents[1]
SMALL_HEADS = (
    *("--codebook_steps", "150", "--head_steps", "200", "--probe_steps", "150", "--batch_size", "8"),
    *("--codebook_size", "256", "--projection_dim", "128", "--hidden_dim", "128"),
)
"""CAUSE heads that train in a minute on two cores."""
TOY_DEPTH_NETWORK = (
    *("--height", "192", "--width", "384", "--crop_bottom", "0", "--min_depth", "0.5"),
    *("--backbone", "test_resnet", "--dec_channels", "64", "48", "32", "24", "--model_dim", "24"),
    *("--patch_size", "12", "--query_nums", "16", "--dim_out", "16", "--feedforward", "128"),
    *("--pose_backbone", "test_resnet", "--pose_scale", "0.25", "--batch_size", "4", "--lr", "5e-4"),
)
"""A depth network of a million weights for toy streets."""
SHORT_DEPTH_TRAINING = ("--loss_strides", "4", "4", "2", "2", "--steps", "400")
"""Its training in minutes on two cores: street and large vehicles, blurred."""
LONG_DEPTH_TRAINING = ("--loss_strides", "4", "4", "2", "2", "1", "1", "1", "1", "--steps", "8000")
"""Its training in hours: that of the network in `refs/spidepth/toy`."""


@dataclass(frozen=True)
class Step:
    """One command: its name in the report, the script (or module), its arguments."""

    name: str
    script: str
    arguments: tuple[str, ...]

    def command(self) -> list[str]:
        """Return the command line."""
        start = ["-m", self.script] if not self.script.endswith(".py") else [str(ROOT / self.script)]
        return [sys.executable, *start, *self.arguments]


def record_path(step: Step, folder: Path) -> Path:
    """Return where a step's record is kept: steps put in before or after it do not move it."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '_', step.name.lower()).strip('_')}.json"


def recorded(step: Step, folder: Path) -> StepRecord | None:
    """Return the record of a step that is done with these very arguments and configuration files, else None.

    Another Python or another checkout does not undo what is done.
    """
    path = record_path(step, folder)
    record = read_step(path) if path.is_file() else None
    if record is None or record.command[len(record.command) - len(step.arguments) :] != step.arguments:
        return None
    if record.configs != config_digests(step.arguments):
        return None
    return record


def run_steps(steps: Sequence[Step], folder: Path, title: str = "demo") -> list[StepRecord]:
    """Run the steps whose record is not in `folder` yet; each is recorded as soon as it is done."""
    records = []
    for number, step in enumerate(steps, start=1):
        head = f"[{title} {number}/{len(steps)}] {step.name}"
        record = recorded(step, folder)
        if record is not None:
            print(f"{head}: done before", flush=True)
        else:
            print(head, flush=True)
            record = run_measured(step.command(), step.name)
            record.write_json(record_path(step, folder))
        records.append(record)
    return records
