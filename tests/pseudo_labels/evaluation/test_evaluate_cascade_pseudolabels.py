"""Scores of folders in the CUPS format, at every resolution that training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.io.png import read_ids, write_png
from pseudo_labels.evaluation.evaluate_cascade_pseudolabels import main


def scores(root: Any, *more: str) -> dict[str, Result]:
    """Results under the standard void rule by name."""
    stem, folder = root.path / "out", root.path / "cups_pseudo_labels"
    arguments = ["--cityscapes_root", str(root.path), "--split", "train", "--cups_dir", str(folder)]
    main([*arguments, "--results", str(stem), *more])
    return {r.name: r for r in read_results(Path(f"{stem}.json")) if r.void_rule == "standard"}


def test_main__perfect_labels(perfect_root: Any, capsys: Any, rows_agree: Any) -> None:
    results = scores(perfect_root)
    rows_agree(perfect_root.path / "out")
    # The matching gives every cluster its class: two of road, one of building, one of car.
    assert results["cups_pseudo_labels"].metrics["pq_things"] == 1.0
    assert results["cups_pseudo_labels"].per_class["building"]["pq"] == 1.0
    assert results["cups_pseudo_labels, many-to-one"].metrics["miou"] == 1.0
    text = capsys.readouterr().out
    assert "| 1            | thing |            100.0 |" in text and "PQ things" in text


@pytest.mark.parametrize("size", [(128, 256), (40, 80), (32, 64)])
def test_main__other_resolutions(perfect_root: Any, size: tuple[int, int]) -> None:
    """Above the image's size, at DATA.SCALE 0.625, at half size."""
    for path in (perfect_root.path / "cups_pseudo_labels").glob("*_leftImg8bit_*.png"):
        ids = read_ids(path)
        rows = [row * ids.shape[0] // size[0] for row in range(size[0])]
        columns = [column * ids.shape[1] // size[1] for column in range(size[1])]
        write_png(path, ids[rows][:, columns].copy())
    result = scores(perfect_root)["cups_pseudo_labels"]
    assert result.metrics["pq_things"] > (0.99 if size[0] > 64 else 0.75)


def test_main__another_aspect_is_refused(perfect_root: Any) -> None:
    for path in (perfect_root.path / "cups_pseudo_labels").glob("*_leftImg8bit_*.png"):
        write_png(path, read_ids(path)[:, :100].copy())
    with pytest.raises(UserError, match="64x100 does not fit the image 64x128"):
        scores(perfect_root)


def test_main__images_without_labels(perfect_root: Any) -> None:
    folder = perfect_root.path / "cups_pseudo_labels"
    gone = perfect_root.stems[0]
    for path in folder.glob(f"{gone}*"):
        path.unlink()
    with pytest.raises(UserError, match=rf"no labels of {gone}.*`only_labelled`"):
        scores(perfect_root)
    assert scores(perfect_root, "--only_labelled")["cups_pseudo_labels"].config["images"] == 1
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="no labels of train"):
        scores(perfect_root, "--only_labelled")


def test_main__missing_folder(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="cups_pseudo_labels: no such folder"):
        scores(tiny_root)
