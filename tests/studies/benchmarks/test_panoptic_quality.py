"""The comparison runs on small maps, and the implementations agree."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from studies.benchmarks import panoptic_quality as benchmark
from studies.benchmarks import street_maps
from studies.benchmarks.settings import QualitySettings

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "panoptic_quality.py"))["main"]
SMALL = ["--images", "2", "--height", "64", "--width", "128", "--segments", "20", "--repeats", "1"]
SETTINGS = QualitySettings(images=2, height=64, width=128, segments=20, repeats=1)


def test_scenes__deterministic_and_imperfect() -> None:
    one, two = (street_maps.scenes(SETTINGS) for _ in range(2))
    assert all(
        (a == b).all() for left, right in zip(one, two, strict=True) for a, b in zip(left, right, strict=True)
    )
    pred, target = one[0]
    assert 10 < len(np.unique(target.reshape(-1, 2), axis=0)) <= 26
    assert 0.5 < (pred == target).all(axis=-1).mean() < 1


def test_runs__agree_with_torchmetrics() -> None:
    maps = street_maps.scenes(SETTINGS)
    results = {"ours": benchmark.run_ours(maps, 1), "torchmetrics": benchmark.run_torchmetrics(maps, 1)}
    assert benchmark.largest_difference(results)["upstream"] < 1e-6
    assert results["torchmetrics"]["pq"]["upstream"] == pytest.approx(
        results["ours"]["pq"]["upstream"], abs=1e-6
    )
    assert results["ours"]["state"] < 10_000


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_runs__agree_with_the_definition(noise: float) -> None:
    """Maps, pairs and the literal count give one PQ, on noisy maps too."""
    maps = street_maps.scenes(SETTINGS, noise)
    runs = (benchmark.run_ours, benchmark.run_ours_from_pairs, benchmark.run_definition)
    ours, pairs, literal = (run(maps, 1)["pq_per_class"]["standard"] for run in runs)
    assert ours == pairs and sum(literal) > 0
    np.testing.assert_allclose(literal, ours, atol=1e-12)


def test_scenes__noise_is_of_the_prediction_alone() -> None:
    (clean, target), (noisy, same) = (street_maps.scenes(SETTINGS, noise)[0] for noise in (0.0, 0.2))
    assert (target == same).all() and 0.05 < (clean != noisy).any(axis=-1).mean() < 0.2


def test_runs__agree_with_hotcoco(tmp_path: Path) -> None:
    """hotcoco follows panopticapi, crowds included: the second oracle of the standard rule."""
    pytest.importorskip("hotcoco", reason="optional second oracle: pip install hotcoco")
    maps = street_maps.scenes(SETTINGS)
    street_maps.write_coco(maps, tmp_path)
    ours, theirs = benchmark.run_ours(maps, 1), benchmark.run_hotcoco(tmp_path, 1)
    np.testing.assert_allclose(
        theirs["pq_per_class"]["standard"], ours["pq_per_class"]["standard"], atol=1e-12
    )
    assert theirs["pq"]["standard"] == pytest.approx(ours["pq"]["standard"], abs=1e-12)


def test_read_coco__round_trip(tmp_path: Path) -> None:
    maps = street_maps.scenes(SETTINGS)
    street_maps.write_coco(maps, tmp_path)
    for index, (pred, target) in enumerate(maps):
        assert (street_maps.read_coco(tmp_path, "pred", index).pairs == pred).all()
        assert (street_maps.read_coco(tmp_path, "target", index).pairs == target).all()


def test_main__table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def measured(name: str, arguments: object, maps: street_maps.Maps) -> dict | None:
        if name.startswith("hotcoco"):
            return None
        result = benchmark.run_ours(maps, 1)
        return result | {"memory": 1.0, "milliseconds": 2.0}

    monkeypatch.setattr(benchmark, "measure", measured)
    assert MAIN([*SMALL, "--json", str(tmp_path / "result.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| ours | 2.0 | 1.0 |") == 2 and "10 % of the predicted pixels noise" in printed
    assert "pip install hotcoco" in printed and "torch " in printed
    tables = json.loads((tmp_path / "result.json").read_text())["tables"]
    assert [table["difference"]["standard"] for table in tables] == [0, 0]
