"""The Stage-1 benchmark runs on small streets, and the fast way and the naive way agree."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.benchmarks import stage1 as benchmark

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "stage1.py"))["main"]
SMALL = ["--images", "1", "--size", "96", "192", "--k", "12", "--repeats", "1"]


def test_street__deterministic_with_things_and_depth() -> None:
    one, two = (benchmark.street((96, 192), 1, 0) for _ in range(2))
    for name in ("semantic", "depth", "codes"):
        assert (getattr(one, name) == getattr(two, name)).all()
    assert np.isin(one.semantic, benchmark.CLASSES.things).mean() > 0.02
    assert one.depth.min() > 0 and one.depth.max() <= benchmark.FARTHEST
    assert one.codes.shape == (4, 8, 90)


def test_main__both_ways_agree(tmp_path: Path, capsys: Any) -> None:
    assert MAIN([*SMALL, "--json", str(tmp_path / "times.json")]) == 0
    printed = capsys.readouterr().out
    assert "| instance splitting" in printed and "overcluster assignment, k = 12" in printed
    results = json.loads((tmp_path / "times.json").read_text())["results"]
    assert set(results) == set(benchmark.TARGETS)
    assert results["overcluster assignment"]["equal"] > 0.9999
    assert results["CUPS conversion"]["equal"] == 1
    assert results["objects of depth"]["equal"] == results["PNG of labels"]["equal"] == 1
    assert results["texton features"]["equal"] == 1
    # A pixel of a cut that is equally far from two instances may go to either.
    assert results["instance splitting"]["equal"] > 0.995


def test_main__a_disagreement_fails(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(benchmark, "smooth_labels", lambda scores, size: scores.new_zeros(size).long())
    assert MAIN(SMALL) == 1
    assert MAIN([*SMALL, "--no_check"]) == 0
    assert "not checked" in capsys.readouterr().out
