"""The demo's commands are ones that their scripts understand, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import demo
import pytest

Parses = Callable[[str, Sequence[str]], None]


@pytest.mark.parametrize("depth", ["disparity", "learned"])
def test_demo_steps__each_stage_1_command_parses(parses: Parses, tmp_path: Path, depth: str) -> None:
    steps = demo.demo_steps(tmp_path, workers=2, seed=0, depth=depth)
    stage_1 = [step for step in steps if step.script.startswith("pseudo_labels/")]
    assert len(stage_1) >= 8
    for step in stage_1:
        parses(step.script.removesuffix(".py").replace("/", "."), step.arguments)


def test_demo_steps__learned_depth_reads_no_disparity(tmp_path: Path) -> None:
    steps = demo.demo_steps(tmp_path, workers=2, seed=0, depth="learned")
    names = [step.name for step in steps]
    assert names.index("depth network") < names.index("depth") < names.index("instances")
    assert not any("disparity" in step.arguments for step in steps)


def test_demo_steps__names_are_different(tmp_path: Path) -> None:
    names = [step.name for step in demo.demo_steps(tmp_path, workers=2, seed=0, depth="learned")]
    assert len(set(names)) == len(names), "records are named after steps"
