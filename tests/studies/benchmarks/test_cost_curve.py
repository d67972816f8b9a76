"""The cost curve: each part works on a small frame, exponents are right, the page says what was measured."""

from __future__ import annotations

import json
import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from studies.benchmarks import cost_curve
from studies.benchmarks.cost_points import PARTS, Cost, Point, measure
from studies.benchmarks.measured_code import code_of
from studies.measure import machine_line

ROOT = Path(__file__).resolve().parents[3]
MAIN = runpy.run_path(str(ROOT / "benchmarks" / "cost_curve.py"))["main"]


@pytest.mark.parametrize("part", [part for part in PARTS if part != "prediction"])
def test_measure__each_part_works_on_its_frames(part: str) -> None:
    cost = measure(Point(part, 96, 192, 27, 2))
    assert cost.seconds > 0 and 50 < cost.memory < 20_000


def write_record(folder: Path, point: Point, cost: Cost) -> None:
    (folder / f"{point.name}.json").write_text(json.dumps(asdict(cost)))


def test_measure__names_the_code_that_ran() -> None:
    code = measure(Point("metric", 64, 128, 27, 2)).code
    assert {"cups/metrics/overlap.py", "cups/ops/panoptic_map.py"} <= code.keys()
    assert "cups/ops/kmeans.py" not in code and all(code.values())


def test_measured__again_where_code_or_machine_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, again = Point("metric", 64, 128, 27, 2), []

    def anew(point: Point, output: Path) -> None:
        again.append(point)
        write_record(tmp_path, point, good)

    monkeypatch.setattr(cost_curve, "measure_apart", anew)
    good = Cost(1.0, 2.0, machine_line(), code_of(["cups/taxonomy.py"]))
    for old in (
        Cost(5.0, 2.0),
        Cost(5.0, 2.0, "another machine", good.code),
        Cost(5.0, 2.0, good.machine, good.code | {"cups/gone.py": "00"}),
    ):
        write_record(tmp_path, point, old)
        assert cost_curve.measured(point, tmp_path, keep=True) == old and not again
        assert cost_curve.measured(point, tmp_path) == good and again.pop() == point
    assert cost_curve.measured(point, tmp_path) == good and not again


def test_main__present_tells_what_is_missing_or_of_other_code(tmp_path: Path) -> None:
    points = cost_curve.all_points(cost_curve.points())
    for point in points[1:]:
        if point.part != "prediction":
            write_record(tmp_path, point, Cost(0.001, 1.0, machine_line(), {"cups/gone.py": "00"}))
    page = tmp_path / "page.md"
    assert MAIN(["--runs", str(tmp_path), "--output", str(page), "--present"]) == 0
    text = page.read_text()
    missing = 1 + sum(point.part == "prediction" for point in points)
    assert f"Not measured, {missing} of {len(points)} points: {points[0].name}, " in text
    assert "Changed since: `cups/gone.py`." in text and "| predictions, scored | not measured" in " ".join(
        text.split()
    )


def test_exponent__of_the_cost_of_a_frame_or_of_all_frames() -> None:
    line = [Point("metric", 10, 10 * n, 27 * n, 100 * n) for n in (1, 3, 10)]
    costs = {point: Cost(0.1 * (point.width / 10) ** 1.5, 100.0) for point in line}
    assert cost_curve.exponent(line, "size", costs) == pytest.approx(1.5)
    assert cost_curve.exponent(line, "k", costs) == pytest.approx(1.5)
    # Ten times the frames, each 10^1.5 times as dear.
    assert cost_curve.exponent(line, "frames", costs) == pytest.approx(2.5)


def test_main__measures_what_is_missing_and_writes_the_page(tmp_path: Path) -> None:
    """All points are given but one, which is measured in a process of its own."""
    points = cost_curve.all_points(cost_curve.points())
    missing = min((p for p in points if p.part == "metric"), key=lambda p: p.megapixels * p.frames)
    for point in points:
        if point != missing:
            cost = Cost(0.001 * point.megapixels, 321.0, machine_line(), code_of(["cups/taxonomy.py"]))
            write_record(tmp_path, point, cost)
    page = tmp_path / "page.md"
    assert MAIN(["--runs", str(tmp_path), "--output", str(page)]) == 0
    assert json.loads((tmp_path / f"{missing.name}.json").read_text())["seconds"] > 0
    text = page.read_text()
    assert "| instances" in text and "321" in text and "prediction by size" not in text
    # Four parts of 2.097152 ms, and as much for the clustering of 2975 frames.
    labels = next(line for line in text.splitlines() if "a million frames" in line and "labels" in line)
    assert [cell.strip() for cell in labels.split("|")[4:7]] == ["2", "4 min 28 s", "39.0 s"]
    assert "All points were measured on the code as it stands." in text


def test_notes__a_steep_curve_is_named_with_its_reason() -> None:
    curves = cost_curve.points()
    costs = {p: Cost(0.001 * p.megapixels**1.5, 300.0) for p in cost_curve.all_points(curves)}
    lines = cost_curve.notes(curves, costs).splitlines()
    assert any(line.startswith("- textons by size: power 1.50: blurs pass") for line in lines)
    assert "- prediction by size: power 1.50: reason unknown" in lines
    assert not any(" by k:" in line or " by frames:" in line for line in lines)
