"""Scores of raw clusters with instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.io.file_names import SPLIT_FILE
from pseudo_labels.evaluation.evaluate_k50_pseudolabels import main
from pseudo_labels.inputs.labels import write_split

NAME = "pseudo_semantic_raw_k6+pseudo_instance_depth_guided_mapped_k300"


def scores(root: Any, *more: str) -> dict[str, Result]:
    """Results under the standard void rule by name."""
    stem = root.path / "out"
    arguments = ["--cityscapes_root", str(root.path), "--split", "train", "--results", str(stem)]
    instances = ("--instance_subdir", "pseudo_instance_depth_guided_mapped_k300")
    main([*arguments, "--k", "6", *instances, *more])
    return {r.name: r for r in read_results(Path(f"{stem}.json")) if r.void_rule == "standard"}


@pytest.mark.parametrize("source", ["classes", "split", "statistics"])
def test_main__things_from_each_source(perfect_root: Any, source: str) -> None:
    more = {
        "classes": ("--thing_classes", "1"),
        "split": (),
        "statistics": ("--statistics", str(perfect_root.path / "cups_pseudo_labels")),
    }[source]
    if source == "split":
        content = {"things": [1], "stuffs": [0, 2, 3, 4, 5]}
        write_split(perfect_root.path / "pseudo_semantic_raw_k6" / SPLIT_FILE, content)
    results = scores(perfect_root, *more)
    assert results[NAME].metrics["pq_things"] == 1.0
    assert results[NAME].assignment[1] == 13 and results[NAME].config["things"] == [1]
    assert results[f"{NAME}, many-to-one"].metrics["miou"] == 1.0
    assert results[f"{NAME}, one-to-one"].metrics["miou"] < 1.0


def test_main__things_matched_with_things_only(perfect_root: Any, rows_agree: Any) -> None:
    # Called stuff, cars cannot be matched; matched together with all classes, they can.
    apart = scores(perfect_root, "--thing_classes", "2")
    together = scores(perfect_root, "--thing_classes", "2", "--matching", "joint")
    assert apart[NAME].assignment[1] != 13 and together[NAME].assignment[1] == 13
    rows_agree(perfect_root.path / "out")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "thing_stuff_split.json: no such file"),
        (("--k", "7"), "pseudo_semantic_raw_k7: no such folder; check `semantic_subdir` and `k`"),
        (("--k", "0"), "`k` 0: must be"),
        (("--thing_classes", "6"), "6 is no pseudo-class, there are 6"),
        (("--instance_subdir", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_main__bad_input(perfect_root: Any, more: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scores(perfect_root, *more)


def test_main__statistics_of_other_labels(perfect_root: Any) -> None:
    folder = perfect_root.path / "pseudo_semantic_raw_k6"
    cups = str(perfect_root.path / "cups_pseudo_labels")
    with pytest.raises(UserError, match="statistics of 6 pseudo-classes, but `k` is 8"):
        scores(perfect_root, "--k", "8", "--semantic_subdir", folder.name, "--statistics", cups)
