"""The benchmark of an evaluation scores real frames, and tells the network's share of the time."""

from __future__ import annotations

import json
import runpy
import time
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from studies.benchmarks import evaluation as benchmark

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "evaluation.py"))["main"]
SMALL = [
    *("--images", "2", "--size", "64", "128", "--things", "3", "--stuffs", "5"),
    *("--config", "Panoptic-Cascade-Mask-R-CNN-Small.yaml"),
]


def test_main__shares_lie_between_nothing_and_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = MAIN([*SMALL, "--json", str(tmp_path / "cost.json")])
    result = json.loads((tmp_path / "cost.json").read_text())["result"]
    assert 0 < result["network"] < result["seconds"] and 100 < result["peak_mib"] < 20_000
    assert result["share"] == pytest.approx(result["network"] / result["seconds"])
    assert code == int(result["share"] < benchmark.AIM)
    assert f"| {100 * result['share']:.1f} %" in " ".join(capsys.readouterr().out.split())


def test_timed__counts_the_network_alone() -> None:
    class Slow(nn.Module):
        def predict_maps(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            time.sleep(0.02)
            return inputs

    timed = benchmark.Timed(Slow())
    assert timed.predict_maps([{}]) == [{}]
    time.sleep(0.05)
    timed.predict_maps([])
    assert 0.04 <= timed.seconds < 10
