"""Scores of pseudo-labels of a street where the right answer is known."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.io.coco_panoptic import to_rgb
from cups.io.files import write_json
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from pseudo_labels.convert_to_cups_format import main as convert
from pseudo_labels.evaluation.evaluate_pseudolabels import main
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_depth_spidepth import main as make_depth
from pseudo_labels.generate_panoptic_pseudolabels import main as make_panoptic
from pseudo_labels.steps.label_kind import LabelKind


@pytest.fixture
def scored_root(tiny_root: Any) -> Any:
    """A root with depth-guided and plain instances."""
    root = ["--cityscapes_root", str(tiny_root.path)]
    make_depth([*root, "--source", "disparity", "--num_workers", "0"])
    for more in ([], ["--no_depth"]):
        make_instances([*root, "--semantic_subdir", "pseudo_semantic_mapped_k300", "--min_area", "20", *more])
    return tiny_root


def scores(root: Any, *more: str) -> dict[str, Result]:
    results = root.path / "results"
    semantics = ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    arguments = ["--cityscapes_root", str(root.path), "--split", "train", "--results", str(results)]
    main([*arguments, *semantics, *more])
    return {result.void_rule: result for result in read_results(Path(f"{results}.json"))}


def test_main__depth_beats_components(scored_root: Any, rows_agree: Any) -> None:
    split = scores(scored_root)["standard"].metrics
    plain = scores(scored_root, "--instance_subdir", "pseudo_instance_cc_mapped_k300")["standard"].metrics
    # Perfect semantics; the two cars that overlap are one component without depth.
    assert split["pq"] > 0.95 and split["miou"] == 1.0
    assert plain["pq_stuff"] == 1.0 and plain["pq_things"] < 0.5
    rows_agree(scored_root.path / "results")


def test_main__all_formats_score_alike(scored_root: Any) -> None:
    root = ["--cityscapes_root", str(scored_root.path), "--semantic_subdir", "pseudo_semantic_mapped_k300"]
    make_panoptic(root)
    convert([*root, "--trainid_input"])
    folders = scores(scored_root)
    panoptic = scores(scored_root, "--panoptic_subdir", "pseudo_panoptic_depth_guided_mapped_k300")
    cups = scores(scored_root, "--cups_dir", str(scored_root.path / "cups_pseudo_labels_mapped_k300"))
    for rule, result in folders.items():
        assert result.metrics == panoptic[rule].metrics == cups[rule].metrics
        assert result.protocol.endswith(f"{rule} void rule")


def test_main__raw_clusters_are_matched(scored_root: Any) -> None:
    # Renamed classes (road 0 -> 5, building 2 -> 0, car 13 -> 1) score the same.
    table = np.zeros(256, np.uint8)
    table[[0, 2, 13]] = 5, 0, 1
    for stem in scored_root.stems:
        semantic = read_ids(scored_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        write_png(scored_root.file("pseudo_semantic_raw_k6", f"{stem}.png"), table[semantic])
    instances = ("--instance_subdir", "pseudo_instance_depth_guided_mapped_k300", "--thing_classes", "1")
    raw = scores(
        scored_root, "--semantic_subdir", "pseudo_semantic_raw_k6", "--num_semantic_classes", "6", *instances
    )
    assert raw["standard"].metrics == scores(scored_root)["standard"].metrics
    assert raw["standard"].assignment[5] == 0 and raw["standard"].assignment[1] == 13


def test_main__labels_of_half_size_are_brought_to_the_ground_truth(scored_root: Any) -> None:
    for folder in ("pseudo_semantic_mapped_k300", "pseudo_instance_depth_guided_mapped_k300"):
        for stem in scored_root.stems:
            path = scored_root.file(folder, f"{stem}.png")
            write_png(path, read_ids(path)[::2, ::2].copy())
    assert scores(scored_root)["standard"].metrics["pq"] > 0.8


def test_main__writes_csv_and_markdown(scored_root: Any, capsys: Any) -> None:
    scores(scored_root, "--num_classes", "7")
    with (scored_root.path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["class"] == "vehicle"
    assert "vehicle" in (scored_root.path / "results.md").read_text()
    assert "7 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instance_subdir", "nowhere"], "nowhere: no such folder"),
        (["--panoptic_subdir", "nowhere"], r"train\.json: no such file"),
        (["--cups_dir", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_main__missing_labels(scored_root: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scores(scored_root, *arguments)


def test_main__missing_frame_is_named(scored_root: Any) -> None:
    scored_root.file("pseudo_instance_depth_guided_mapped_k300", f"{scored_root.stems[1]}.png").unlink()
    with pytest.raises(UserError, match=scored_root.stems[1]):
        scores(scored_root)


def test_main__labels_of_another_shape_are_refused(scored_root: Any) -> None:
    for folder in ("pseudo_semantic_mapped_k300", "pseudo_instance_depth_guided_mapped_k300"):
        path = scored_root.file(folder, f"{scored_root.stems[0]}.png")
        write_png(path, read_ids(path)[:, :100].copy())
    with pytest.raises(UserError, match=rf"{scored_root.stems[0]}.*64x100"):
        scores(scored_root)


def test_main__the_folder_tells_the_number_of_classes(scored_root: Any) -> None:
    folder = scored_root.path / "pseudo_semantic_mapped_k300"
    write_provenance(folder, script="x", arguments={}, labels=LabelKind("trainId", 19).content())
    assert scores(scored_root)["standard"].config["num_semantic_classes"] == "19"
    with pytest.raises(UserError, match=r"^`num_semantic_classes` 27: .*says 19 classes \(trainId\)"):
        scores(scored_root, "--num_semantic_classes", "27")


def test_main__a_coco_set_of_another_tool(scored_root: Any) -> None:
    """Its segment ids are arbitrary and its categories have gaps; `segments_info` tells the classes."""
    rng, annotations = np.random.default_rng(0), []
    for stem in scored_root.stems:
        semantic = read_ids(scored_root.file("pseudo_semantic_mapped_k300", f"{stem}.png"))
        instance = read_ids(scored_root.file("pseudo_instance_depth_guided_mapped_k300", f"{stem}.png"))
        segments, info = np.zeros(semantic.shape, np.int64), []
        for label, number in sorted(
            {*zip(semantic.ravel().tolist(), instance.ravel().tolist(), strict=True)}
        ):
            if label != 13 or number:
                segment = int(rng.integers(1, 2**24))
                segments[(semantic == label) & (instance == number)] = segment
                info.append({"id": segment, "category_id": 100 + label, "iscrowd": 0})
        write_png(scored_root.file("other", f"{stem}_panoptic.png"), to_rgb(segments))
        annotations.append({"file_name": f"train/aachen/{stem}_panoptic.png", "segments_info": info})
    categories = [{"id": i + 100, "name": f"c{i}", "isthing": int(i == 13)} for i in (13, 0, 2)]
    write_json(
        scored_root.path / "other" / "train.json", {"annotations": annotations, "categories": categories}
    )
    own, other = scores(scored_root), scores(scored_root, "--panoptic_subdir", "other")
    for rule, result in own.items():
        assert result.metrics == other[rule].metrics
    assert other["standard"].assignment == [0, 2, 13]


def test_main__a_class_file(scored_root: Any, tmp_path: Path) -> None:
    """Classes of one's own over the ids of gtFine: cars alone are things, the rest is one class."""
    path = tmp_path / "two.yaml"
    path.write_text("classes: [{id: [7, 11], name: place, thing: false}, {id: 26, name: car, thing: true}]")
    result = scores(scored_root, "--classes", str(path))["standard"]
    assert set(result.per_class) == {"place", "car"} and result.metrics["pq"] > 0.95
    assert f"2 classes of {path}" in result.protocol
    path.write_text("classes: [{id: 26, name: car, thing: true}]")
    with pytest.raises(UserError, match=rf"_labelIds.png: holds id 7 and 1 more, which {path} does not name"):
        scores(scored_root, "--classes", str(path))
