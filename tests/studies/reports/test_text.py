"""Texts of the reports: numbers only from runs, verdicts both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.evaluation.results import Result, write_results
from studies.measure import StepRecord
from studies.reports.text import fact, judge, metrics_table, spread, steps_summary, table
from studies.toy_runs import ToyRuns


def test_spread__mean_and_sample_deviation() -> None:
    # 0.30, 0.34, 0.38: mean 34, squared distances 16, 0, 16; 32 / (3 - 1) = 16, root 4.
    assert spread({0: 0.30, 1: 0.34, 2: 0.38}) == "34.0 ± 4.0"


def test_spread__one_run_has_no_deviation() -> None:
    assert spread({2: 0.344}) == "34.4 (seed 2)"


def test_spread__missing_seeds_are_counted() -> None:
    assert spread({0: 0.2, 2: 0.2}, (0, 1, 2)) == "20.0 ± 0.0 (2 of 3 seeds)"


def test_spread__nothing_was_run() -> None:
    assert spread({}) == "not run"


def test_judge__holds_if_each_seed_does() -> None:
    verdict = judge("a beats b", ("a", {0: 0.5, 1: 0.4}), ("b", {0: 0.3, 1: 0.39}), "mIoU")
    assert verdict.holds is True
    assert verdict.text == (
        "**Holds**: a beats b. mIoU: a 45.0 ± 7.1, b 34.5 ± 6.4; difference +20.00 (seed 0), +1.00 (seed 1)."
    )


def test_judge__a_better_mean_is_not_enough() -> None:
    verdict = judge("a beats b", ("a", {0: 0.9, 1: 0.2}), ("b", {0: 0.3, 1: 0.21}), "mIoU")
    assert verdict.holds is False
    assert verdict.text.startswith("**Holds for some seeds only**: ")
    assert "-1.00 (seed 1)" in verdict.text


def test_judge__does_not_hold() -> None:
    verdict = judge("a beats b", ("a", {0: 0.1}), ("b", {0: 0.3}), "PQ")
    assert verdict.holds is False
    assert verdict.text == (
        "**Does not hold**: a beats b. PQ: a 10.0 (seed 0), b 30.0 (seed 0); difference -20.00 (seed 0)."
    )


@pytest.mark.parametrize(("strict", "holds"), [(True, False), (False, True)])
def test_judge__equal_is_not_better_but_not_worse(strict: bool, holds: bool) -> None:
    assert judge("claim", ("a", {0: 0.3}), ("b", {0: 0.3}), "PQ", strict=strict).holds is holds


def test_judge__compares_the_same_seeds_only() -> None:
    verdict = judge("claim", ("a", {0: 0.5, 1: 0.1}), ("b", {0: 0.4, 2: 0.9}), "PQ")
    assert verdict.holds is True
    assert "seed 1" not in verdict.text and "seed 2" not in verdict.text


@pytest.mark.parametrize(("value", "told"), [(0.1, True), (0.5, False)])
def test_judge__the_reason_is_given_where_it_fails(value: float, told: bool) -> None:
    verdict = judge("claim", ("a", {0: value}), ("b", {0: 0.3}), "PQ", why="Because.")
    assert verdict.text.endswith(" Because.") is told


def test_judge__not_run() -> None:
    verdict = judge("a beats b", ("a", {0: 0.5}), ("b", {1: 0.4}), "PQ")
    assert verdict.holds is None
    assert verdict.text == "**Not run**: a beats b."


def _write(runs: ToyRuns, seed: int, name: str, **metrics: float) -> None:
    results = [
        Result(name, {key: value * factor for key, value in metrics.items()}, "protocol", rule)
        for rule, factor in (("standard", 1.0), ("upstream", 2.0))
    ]
    write_results(runs.stem(seed, name), results)


def test_metrics_table__missing_files_and_metrics_are_not_run(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    _write(runs, 0, "one", pq=0.2)
    _write(runs, 1, "one", pq=0.3)
    text = metrics_table("name", runs, [("first", "one"), ("second", "two")], ("pq", "miou"))
    command, _, *lines = text.splitlines()
    assert command == "<!-- python -m studies.make_reports --only name -->"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "PQ", "mIoU"]
    assert cells[2:] == [["first", "25.0 ± 7.1", "not run"], ["second", "not run", "not run"]]


def test_metrics_table__void_rules_are_kept_apart(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    _write(runs, 0, "one", pq=0.2)
    assert "40.0 (seed 0)" in metrics_table("name", runs, [("first", "one")], ("pq",), "upstream")


def test_steps_summary__seeds_are_averaged() -> None:
    records = [
        StepRecord("toy streets", 30.0, 500.0),
        StepRecord("seed 0: heads", 10.0, 100.0),
        StepRecord("seed 1: heads", 20.0, 300.0),
    ]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in steps_summary("name", records).splitlines()
    ]
    assert ["toy streets", "30.0 s", "1", "500 MB"] in rows
    assert ["heads", "15.0 s", "2", "300 MB"] in rows


def test_table__stands_under_its_command() -> None:
    assert table("name", [("a", 1)], ("x", "y")).startswith(
        "<!-- python -m studies.make_reports --only name -->\n\n| x "
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "not run"),
        ({0: False, 1: False}, "no"),
        ({0: False, 1: None}, "unknown"),
        ({0: None, 1: True}, "yes"),
    ],
)
def test_fact__no_only_if_all_seeds_say_so(values: dict[int, bool | None], text: str) -> None:
    assert fact(values) == text
