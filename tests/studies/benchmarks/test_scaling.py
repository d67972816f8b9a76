"""The scaling benchmark runs the steps' own work in one worker and in two, and tells how they compare."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from pseudo_labels.steps.workers import run_serial
from studies.benchmarks import scaling as benchmark
from studies.benchmarks.settings import SCALED, ScalingSettings

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "scaling.py"))["main"]
SMALL = ["--size", "96", "192", "--k", "12", "--repeats", "1", "--frames", "6"]


def test_processes__each_step_writes_its_files(tmp_path: Path) -> None:
    scenes = [benchmark.street((96, 192), index, 0) for index in range(2)]
    frames = benchmark.write_frames(tmp_path, scenes, 3)
    work = benchmark.processes(tmp_path, frames, 12)
    assert tuple(work) == SCALED
    for process in work.values():
        assert [error for _, error in run_serial(frames, process)] == [None] * 3
    for pattern in ("clusters/train/street/*.png", "instance/train/street/*.png", "cups/*_instance.png"):
        assert len(list(tmp_path.glob(pattern))) == 3, pattern


def test_seconds__count_from_when_all_workers_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting two processes takes a second, which a run over 86 000 frames does not notice."""
    clock = iter([0.0, 10.0, 13.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(benchmark, "run_pool", lambda items, process, _: run_serial(items, process))
    frames: Any = range(10)
    assert benchmark.seconds_a_frame(frames, str, 2) == 3 / 6


def test_main__one_worker_against_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {1: 2.0, 2: 1.25}
    monkeypatch.setattr(benchmark, "seconds_a_frame", lambda frames, process, workers: seconds[workers])
    arguments = [*SMALL, "--only", "instances", "--json", str(tmp_path / "times.json")]
    assert MAIN(arguments) == 1  # 1.6 of 1.8
    assert "| instances" in (printed := capsys.readouterr().out) and "1.60" in printed and "load" in printed
    assert json.loads((tmp_path / "times.json").read_text())["results"]["instances"]["scaling"] == 1.6
    seconds[2] = 1.0
    assert MAIN(arguments) == 0


def test_settings__too_few_frames_for_the_workers() -> None:
    with pytest.raises(UserError, match="`frames` 6: give more than twice the 3"):
        ScalingSettings(frames=6, workers=3)
