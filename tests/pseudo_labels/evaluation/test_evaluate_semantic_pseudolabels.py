"""Semantic scores of perfect labels under each numbering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.io.png import read_ids, write_png
from pseudo_labels.evaluation.evaluate_semantic_pseudolabels import main
from pseudo_labels.inputs.cluster_names import read_names


def scores(root: Any, *more: str) -> dict[str, Result]:
    """Results under the standard void rule by matching."""
    stem = root.path / "out"
    arguments = ["--cityscapes_root", str(root.path), "--split", "train", "--results", str(stem)]
    named = () if "--cups_dir" in more else ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    main([*arguments, *named, *more])
    results = read_results(Path(f"{stem}.json"))
    return {result.name.split(", ")[1]: result for result in results if result.void_rule == "standard"}


def test_main__train_ids(perfect_root: Any) -> None:
    for matching, result in scores(perfect_root).items():
        assert result.metrics == {"miou": 1.0, "accuracy": 1.0}, matching


@pytest.mark.parametrize("num_classes", ["27", "7"])
def test_main__names_of_other_class_sets(perfect_root: Any, num_classes: str) -> None:
    assert scores(perfect_root, "--num_classes", num_classes)["named"].metrics["miou"] == 1.0


def test_main__raw_clusters_need_a_many_to_one_matching(perfect_root: Any) -> None:
    result = scores(perfect_root, "--semantic_subdir", "pseudo_semantic_raw_k6")
    assert "named" not in result
    assert result["many-to-one"].metrics["miou"] == 1.0
    # The smaller part of the road is lost.
    assert 0.5 < result["one-to-one"].per_class["road"]["iou"] < 0.75


def test_main__class27_and_the_published_protocol(perfect_root: Any) -> None:
    for stem in perfect_root.stems:
        ids = read_ids(perfect_root.file("gtFine", f"{stem}_gtFine_labelIds.png"))
        write_png(perfect_root.file("pseudo_semantic_cause27", f"{stem}.png"), ids - 7)
    folder = ("--semantic_subdir", "pseudo_semantic_cause27", "--labels", "class27")
    result = scores(perfect_root, *folder, "--protocol", "semantic-27-crop320")
    assert result["named"].metrics["miou"] == 1.0
    assert result["one-to-one"].protocol.startswith(
        "semantic-27-crop320: semantic, 27 classes, centre crop 320"
    )
    # Named wrongly, the matching still finds them.
    for stem in perfect_root.stems:
        path = perfect_root.file("pseudo_semantic_cause27", f"{stem}.png")
        write_png(path, (read_ids(path) + 1) % 27)
    result = scores(perfect_root, *folder)
    assert result["named"].metrics["miou"] == 0.0 and result["one-to-one"].metrics["miou"] == 1.0


def test_main__cups_folder_and_workers(perfect_root: Any) -> None:
    cups = str(perfect_root.path / "cups_pseudo_labels")
    result = scores(perfect_root, "--cups_dir", cups, "--num_workers", "1")
    assert result["many-to-one"].metrics["miou"] == 1.0


def test_main__matching_of_another_split(perfect_root: Any) -> None:
    # The "val" split is the same street, its clusters named otherwise: a matching fitted there fails here.
    for folder in ("leftImg8bit", "gtFine", "pseudo_semantic_raw_k6"):
        for path in (perfect_root.path / folder / "train").rglob("*.png"):
            target = Path(str(path).replace("/train/", "/val/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    swap = np.array([1, 0, 2, 3, 4, 5], np.uint8)
    for path in (perfect_root.path / "pseudo_semantic_raw_k6" / "val").rglob("*.png"):
        write_png(path, swap[read_ids(path)])
    folder = ("--semantic_subdir", "pseudo_semantic_raw_k6")
    result = scores(perfect_root, *folder, "--match_split", "val")["many-to-one"]
    assert result.per_class["car"]["iou"] == 0.0 and result.per_class["road"]["iou"] == 1.0
    assert "fitted on val (2 images)" in result.protocol
    assert "the train images scored" in scores(perfect_root, *folder)["many-to-one"].protocol


def test_main__writes_a_report(perfect_root: Any, capsys: Any) -> None:
    scores(perfect_root)
    text = (perfect_root.path / "out.md").read_text()
    assert text.strip() in capsys.readouterr().out and "| road" in text


def test_main__bad_input(perfect_root: Any) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder; check `semantic_subdir`"):
        scores(perfect_root, "--semantic_subdir", "nowhere")
    with pytest.raises(UserError, match="holds class 5, but there are 4"):
        scores(perfect_root, "--semantic_subdir", "pseudo_semantic_raw_k6", "--num_semantic_classes", "4")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cups_dir", "x", "--semantic_subdir", "y"), "^`semantic_subdir`: give either"),
        (("--protocol", "semantic-27-crop320", "--num_classes", "7"), "^`num_classes`: give either"),
    ],
)
def test_main__one_of_two(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["--cityscapes_root", str(tmp_path), *flags])


def test_main__a_matching_is_saved_as_names(perfect_root: Any) -> None:
    """Six clusters of three classes: one-to-one leaves the smaller half of the road without a name."""
    path = perfect_root.path / "names.json"
    scores(perfect_root, "--semantic_subdir", "pseudo_semantic_raw_k6", "--save_names", str(path))
    names = read_names(path)
    assert names.uses_ground_truth is True and names.centroids is None
    assert names.names[0] == 2 and names.names[1] == 13 and 0 in (names.names[3], names.names[5])
    with pytest.raises(UserError, match="names are the 19 trainIds"):
        scores(perfect_root, "--num_classes", "27", "--save_names", str(path))
