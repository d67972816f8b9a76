"""What the soak kills."""

from __future__ import annotations

from pathlib import Path

from studies.soak_steps import soak_steps


def test_soak_steps__kill_every_training(tmp_path: Path) -> None:
    scripts = {Path(command.script).stem for command in soak_steps(tmp_path)}
    assert {
        "train",
        "train_self",
        "train_cause",
        "train_spidepth",
        "train_refine_net",
        "train_dinosaur",
    } <= scripts
