"""The sweep's rows are those of generating and evaluating each configuration on its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_ids, write_png
from cups.taxonomy import class_set
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.scoring import sweep as sweeping
from pseudo_labels.scoring.engine import FolderLabels, evaluate, ground_truth_frames
from pseudo_labels.scoring.sweep_report import METRICS
from pseudo_labels.sweep_k50_spidepth import main
from tests.pseudo_labels.conftest import write_stereo_depth

SEMANTICS = "pseudo_semantic_raw_k20"
THINGS = (3, 11, 17)
OBJECTS = ("--min_thing_share", "0.2", "--depth_blur", "0.01")
GRID = ("--grad_thresholds", "0.1", "0.25", "--min_areas", "256", "2560", "19200")
"""4, 40 and 300 pixels of images with 64 rows."""


@pytest.fixture
def swept_root(tiny_root: Any) -> Any:
    """Depth, and noisy clusters: cars are 3, 11 and specks of 5, the street 0, 5 and specks of 17; void."""
    write_stereo_depth(tiny_root)
    rng = np.random.default_rng(0)
    for stem in tiny_root.stems:
        train_ids = read_ids(tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        noise = np.kron(rng.integers(0, 2, (8, 16)), np.ones((8, 8), np.int64))
        clusters = np.choose(noise, (np.where(train_ids == 13, 3, 0), np.where(train_ids == 13, 11, 5)))
        specks = rng.random(clusters.shape)
        clusters[specks < 0.02] = 17
        clusters[(specks > 0.95) & (train_ids == 13)] = 5
        clusters[:3, :3] = 255
        write_png(tiny_root.file(SEMANTICS, f"{stem}.png"), clusters.astype(np.uint8))
    return tiny_root


@pytest.fixture
def picture() -> None:
    """Marks the tests that look at the heat map."""


@pytest.fixture(autouse=True)
def _no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else: only tests with `picture` do."""
    if "picture" not in request.fixturenames:
        monkeypatch.setattr(sweeping, "write_heat_map", lambda *_: None)


def sweep(root: Any, *more: str, output: str = "sweep") -> dict[str, Any]:
    arguments = ["--cityscapes_root", str(root.path), "--split", "train", "--semantic_subdir", SEMANTICS]
    arguments += ["--thing_classes", *map(str, THINGS), "--num_workers", "0", *GRID, *OBJECTS, *more]
    main([*arguments, "--output_dir", str(root.path / output)])
    return json.loads((root.path / output / "sweep.json").read_text())


def separate_route(
    root: Any, content: dict[str, Any], threshold: float | None, area: int, proposals: str
) -> dict[str, Any]:
    """Write the instances of one configuration, then evaluate the folder."""
    flags = ["--no_depth"] if threshold is None else ["--grad_threshold", str(threshold), *OBJECTS]
    if threshold is None and proposals == "objects":
        proposals = "things"  # the baseline of proposals by depth
    make_instances(
        ["--cityscapes_root", str(root.path), "--semantic_subdir", SEMANTICS, "--min_area", str(area), *flags,
         "--method_name", "alone", "--proposals", proposals, "--thing_classes", *map(str, THINGS),
         "--overwrite"]
    )  # fmt: skip
    instances = root.path / "pseudo_instance_alone"
    evaluation = evaluate(
        ground_truth_frames(root.path, "train", None),
        FolderLabels(root.path / SEMANTICS, instances, "train", 20),
        classes=class_set(19),
        num_clusters=20,
        things=THINGS,
        assignment=np.array(content["assignment"]),
    )
    return {rule: {m: float(values[m]) for m in METRICS} for rule, values in evaluation.scores.items()}


@pytest.mark.parametrize("proposals", ["classes", "things", "objects"])
@pytest.mark.parametrize(("threshold", "area"), [(0.1, 2560), (0.25, 256), (None, 2560), (None, 19200)])
def test_main__rows_equal_generating_and_evaluating(
    swept_root: Any, threshold: float | None, area: int, proposals: str
) -> None:
    content = sweep(swept_root, "--proposals", proposals)
    alone = separate_route(swept_root, content, threshold, area, proposals)
    for rule, values in alone.items():
        row = next(
            row
            for row in content["rows"]
            if (row["grad_threshold"], row["min_area"], row["void_rule"]) == (threshold, area, rule)
        )
        assert {metric: row[metric] for metric in METRICS} == values


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_main__labels_of_another_size_than_ground_truth(swept_root: Any, scale: float) -> None:
    for stem in swept_root.stems:
        path = swept_root.file(SEMANTICS, f"{stem}.png")
        clusters = read_ids(path)
        write_png(
            path, clusters[::2, ::2].copy() if scale < 1 else np.kron(clusters, np.ones((2, 2), np.uint8))
        )
    content = sweep(swept_root, "--proposals", "classes")
    alone = separate_route(swept_root, content, 0.1, 256, "classes")["standard"]
    row = next(r for r in content["rows"] if r["grad_threshold"] == 0.1 and r["min_area"] == 256)
    assert {metric: row[metric] for metric in METRICS} == alone


def test_main__depth_beats_components_and_ranks_fall(swept_root: Any, picture: None) -> None:
    content = sweep(swept_root, "--proposals", "things")
    rows = [row for row in content["rows"] if row["void_rule"] == "standard"]
    assert [row["rank_pq"] for row in rows] == sorted(row["rank_pq"] for row in rows)
    best = max(rows, key=lambda row: row["pq_things"])
    assert best["grad_threshold"] is not None and best["rank_pq_things"] == 1
    assert len(rows) == 9 and content["uses_ground_truth"] is True
    folder = swept_root.path / "sweep"
    with (folder / "sweep.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 18
    text = (folder / "sweep.md").read_text()
    assert "choosing with labels" in text and "--grad_threshold 0.15 --min_area 400" in text
    assert (folder / "sweep.png").stat().st_size > 10_000


def test_main__a_killed_run_keeps_its_frames_and_ends_alike(swept_root: Any, picture: None) -> None:
    sweep(swept_root)
    folder = swept_root.path / "sweep"
    kept, lost = (folder / "tables" / "train" / "aachen" / f"{stem}.npz" for stem in swept_root.stems)
    before = {name: (folder / f"sweep.{name}").read_bytes() for name in ("json", "csv", "md", "png")}
    time = kept.stat().st_mtime_ns
    lost.unlink()
    sweep(swept_root)
    assert kept.stat().st_mtime_ns == time and lost.is_file()
    assert {name: (folder / f"sweep.{name}").read_bytes() for name in before} == before


def test_main__the_last_shard_sums_up(swept_root: Any) -> None:
    whole = sweep(swept_root)["rows"]
    with pytest.raises(FileNotFoundError):
        sweep(swept_root, "--num_shards", "2", "--shard", "1", output="shards")
    assert sweep(swept_root, "--num_shards", "2", "--shard", "0", output="shards")["rows"] == whole


def test_main__another_grid_in_one_folder_needs_overwrite(swept_root: Any) -> None:
    sweep(swept_root)
    with pytest.raises(UserError, match="`min_areas`"):
        sweep(swept_root, "--min_areas", "8")
    assert len(sweep(swept_root, "--min_areas", "8", "--overwrite", "--no_cc_baseline")["rows"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grad_thresholds", "0"], "`grad_thresholds` 0.0"),
        (["--min_areas", "0"], "`min_areas` 0"),
        (["--min_areas", "5", "5"], "`min_areas` 5 5: holds a value twice"),
        (["--min_thing_share", "0"], "`min_thing_share` 0.0: must be above 0"),
        (["--sigma", "-1"], "`sigma` -1.0: must be at least 0"),
        (["--depth_blur", "1"], "`depth_blur` 1.0: must be at most 0.2"),
        (["--thing_classes", "20"], "`thing_classes`: 20 is no pseudo-class"),
        (
            ["--semantic_subdir", "pseudo_semantic_mapped_k300", "--num_semantic_classes", "2"],
            "holds class 13",
        ),
        (["--depth_subdir", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_main__bad_input(swept_root: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep(
            swept_root,
            *(arguments if "--thing_classes" in arguments else ["--thing_classes", "1", *arguments]),
        )


def test_main__a_plain_folder_has_no_ground_truth(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`image_dir`"):
        main(["--image_dir", str(tmp_path)])


def test_main__bare_it_takes_the_images_that_have_semantics_and_makes_the_split(swept_root: Any) -> None:
    """The lines of the first description: clusters of train, then the sweep, with nothing between them."""
    folder = swept_root.path / "pseudo_semantic_raw_k50"
    (swept_root.path / "pseudo_semantic_mapped_k300").rename(folder)
    root = ["--cityscapes_root", str(swept_root.path), "--num_workers", "0"]
    main([*root, "--output_dir", str(swept_root.path / "bare")])
    content = json.loads((swept_root.path / "bare" / "sweep.json").read_text())
    assert content["split"] == "train" and content["frames"] == len(swept_root.stems)
    assert (folder / "thing_stuff_split.json").is_file()


def test_main__grids_of_ones_own_come_after_each_other(swept_root: Any) -> None:
    """Each leaves the results of the others, and `overwrite` is not needed."""
    root = ["--cityscapes_root", str(swept_root.path), "--split", "train", "--semantic_subdir", SEMANTICS]
    arguments = [*root, "--thing_classes", *map(str, THINGS), "--num_workers", "0"]
    for more in ([], ["--no_cc_baseline"], ["--min_areas", "8", "9"], ["--max_images", "1"]):
        main([*arguments, *more])
    results = sorted((swept_root.path / "sweeps").glob("*/sweep.json"))
    assert sorted(len(json.loads(path.read_text())["rows"]) for path in results) == [28, 62, 72]
