"""The cost curve: each part works on a small frame, exponents are right, the page says what was measured."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from studies.benchmarks import cost_curve
from studies.benchmarks.cost_points import PARTS, Cost, Point, measure
from tests.warm import warm_python

ROOT = Path(__file__).resolve().parents[3]
MAIN = runpy.run_path(str(ROOT / "benchmarks" / "cost_curve.py"))["main"]


@pytest.mark.parametrize("part", [part for part in PARTS if part != "prediction"])
def test_measure__each_part_works_on_its_frames(part: str) -> None:
    cost = measure(Point(part, 96, 192, 27, 2))
    assert cost.seconds > 0 and 50 < cost.memory < 20_000


def test_exponent__of_the_cost_of_a_frame_or_of_all_frames() -> None:
    line = [Point("metric", 10, 10 * n, 27 * n, 100 * n) for n in (1, 3, 10)]
    costs = {point: Cost(0.1 * (point.width / 10) ** 1.5, 100.0) for point in line}
    assert cost_curve.exponent(line, "size", costs) == pytest.approx(1.5)
    assert cost_curve.exponent(line, "k", costs) == pytest.approx(1.5)
    # Ten times the frames, each 10^1.5 times as dear.
    assert cost_curve.exponent(line, "frames", costs) == pytest.approx(2.5)


def test_main__measures_what_is_missing_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All points are given but one, which is measured in a process of its own."""
    monkeypatch.setattr(sys, "executable", warm_python())
    points = cost_curve.all_points(cost_curve.points())
    missing = min((p for p in points if p.part == "metric"), key=lambda p: p.megapixels * p.frames)
    for point in points:
        if point != missing:
            cost = {"seconds": 0.001 * point.megapixels, "memory": 321.0}
            (tmp_path / f"{point.name}.json").write_text(json.dumps(cost))
    page = tmp_path / "page.md"
    assert MAIN(["--runs", str(tmp_path), "--output", str(page)]) == 0
    assert json.loads((tmp_path / f"{missing.name}.json").read_text())["seconds"] > 0
    text = page.read_text()
    assert "| instances" in text and "321" in text and "a million frames" in text
    # 5 parts beside the metric, 2.1 ms each, on 32 cores and 64 nodes
    assert "prediction by size" not in text and "86 000" in text


def test_notes__a_steep_curve_is_named_with_its_reason() -> None:
    curves = cost_curve.points()
    costs = {p: Cost(0.001 * p.megapixels**1.5, 300.0) for p in cost_curve.all_points(curves)}
    lines = cost_curve.notes(curves, costs).splitlines()
    assert any(line.startswith("- textons by size: power 1.50: blurs pass") for line in lines)
    assert "- prediction by size: power 1.50: reason unknown" in lines
    assert not any(" by k:" in line or " by frames:" in line for line in lines)
