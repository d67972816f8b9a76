"""Results: files that read back, tables that say what they mean."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.evaluation.results import (
    Result,
    class_table,
    format_metrics,
    read_results,
    results_from_scores,
    results_table,
    write_results,
)
from cups.io.markdown import markdown_table, percent
from cups.metrics.protocol import NAMED
from cups.taxonomy import class_set

RESULT = Result(
    "Stage 2",
    {"pq": 0.278, "pq_things": 0.1765, "pq_stuff": float("nan"), "miou": 0.301},
    "toy-19: panoptic, 19 classes",
    per_class={
        "road": {"kind": "stuff", "pq": 0.9, "iou": 0.95},
        "car": {"kind": "thing", "pq": float("nan"), "iou": 0.5},
    },
    seeds=(0, 1),
    code_version="0.1.0 abc",
    config={"DATA": {"ROOT": Path("data"), "SIZE": (1, 2)}, "rate": np.float32(0.5)},
    provenance={"uses_ground_truth": False},
)


def test_write_results__json_reads_back(tmp_path: Path) -> None:
    stem = tmp_path / "deep" / "result"
    write_results(stem, [RESULT, replace(RESULT, void_rule="upstream")])
    first = stem.with_suffix(".json").read_bytes()
    stored = json.loads(first)["results"][0]
    assert stored["metrics"]["pq_stuff"] is None, "JSON has no nan"
    assert stored["config"] == {"DATA": {"ROOT": "data", "SIZE": [1, 2]}, "rate": 0.5}
    assert list(stored) == [field.name for field in fields(Result)], "stable order"
    back = read_results(stem.with_suffix(".json"))
    assert [result.void_rule for result in back] == ["standard", "upstream"]
    assert back[0].metrics["pq"] == 0.278 and math.isnan(back[0].metrics["pq_stuff"])
    assert math.isnan(back[0].per_class["car"]["pq"]) and list(back[0].seeds) == [0, 1]
    write_results(stem, back)
    assert stem.with_suffix(".json").read_bytes() == first
    names = sorted(entry.name for entry in stem.parent.iterdir())
    assert names == ["result.csv", "result.json", "result.md"], "no temporary file is left"


def test_write_results__csv_has_averages_and_classes(tmp_path: Path) -> None:
    write_results(tmp_path / "result", [RESULT])
    rows = list(csv.DictReader((tmp_path / "result.csv").open()))
    row = {"name": "Stage 2", "void_rule": "standard"}
    assert rows[0] == row | {"class": "", "metric": "pq", "value": "0.278"}
    assert row | {"class": "road", "metric": "iou", "value": "0.95"} in rows
    assert len(rows) == 8 and not any(row["metric"] == "kind" for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"results": [{"name": "x"}]}',
        '{"results": 3}',
        '{"results": [{"name": "x", "metrics": {}, "protocol": "", "k": 1}]}',
    ],
)
def test_read_results__names_the_bad_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"result\.json: .*; evaluate again"):
        read_results(path)
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "other.json")


def test_results_from_scores__one_result_a_rule() -> None:
    vectors = {f"{key}_per_class": torch.arange(19) / 19 for key in ("pq", "sq", "rq", "iou")}
    scores = {
        rule: {"pq": torch.tensor(pq, dtype=torch.float64), "assignment": torch.tensor([3, 255]), **vectors}
        for rule, pq in (("standard", 0.25), ("upstream", 0.5))
    }
    results = results_from_scores("x", scores, class_set(19), NAMED["toy-19"], seeds=(3,))  # type: ignore[arg-type]
    assert [(r.void_rule, r.metrics) for r in results] == [
        ("standard", {"pq": 0.25}),
        ("upstream", {"pq": 0.5}),
    ]
    assert "upstream void rule" in results[1].protocol and results[0].seeds == (3,)
    assert results[0].per_class["car"]["kind"] == "thing" and results[0].assignment == [3, 255]
    assert results[0].per_class["car"]["pq"] == pytest.approx(13 / 19) and len(results[0].per_class) == 19


def test_percent__one_decimal_and_dash() -> None:
    assert [percent(v) for v in (0.2784, 1.0, 0.0, float("nan"))] == ["27.8", "100.0", "0.0", "–"]  # noqa: RUF001


def test_format_metrics__known_keys_in_order() -> None:
    assert format_metrics({"miou": 0.5, "pq": 0.278}) == "PQ 27.8, mIoU 50.0"
    assert format_metrics({"accuracy": 0.5}, ("accuracy", "rq")) == "Accuracy 50.0"


def test_markdown_table__aligned_and_escaped() -> None:
    assert markdown_table([("a|b", 1.5), ("c", 20)], ("name", "x")).splitlines() == [
        "| name |   x |",
        "| ---- | --: |",
        "| a\\|b | 1.5 |",
        "| c    |  20 |",
    ]
    assert markdown_table([], ("name",)).count("\n") == 1
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        markdown_table([(1, 2)], ("name",))


def test_results_table__rules_in_rows_protocols_below() -> None:
    table = results_table([RESULT, Result("other", {"pq": 0.1}, "another", "upstream")])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:4]]
    dash = percent(float("nan"))
    assert rows[0] == ["Stage 2", "standard", "27.8", "17.6", dash, "30.1"]
    assert rows[1] == ["other", "upstream", "10.0", dash, dash, dash]
    assert table.endswith("- toy-19: panoptic, 19 classes.\n- another.")


def test_class_table__columns_that_exist() -> None:
    lines = class_table(RESULT).splitlines()
    assert lines[0].split() == ["|", "class", "|", "kind", "|", "PQ", "|", "IoU", "|"]
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells == ["", "road", "stuff", "90.0", "95.0", ""]
