"""The instance path on rendered streets with perfect semantics: what depth alone contributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
from cups.data.toy_streets import write_dataset
from cups.evaluation.results import read_results
from cups.io.png import write_png
from cups.taxonomy import class_set
from pseudo_labels.classify_stuff_things import main as classify
from pseudo_labels.evaluation.evaluate_pseudolabels import main as evaluate
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_depth_spidepth import main as make_depth
from pseudo_labels.inputs.labels import read_split

CLASSES = class_set(19)


@pytest.fixture(scope="module")
def toy_root(make_folder: Callable[[str], Path]) -> Path:
    """A few small frames with depth, and ground truth in the place of semantic pseudo-labels."""
    root = make_folder("toy")
    write_dataset(root, train_frames=24, val_frames=3, height=96, width=192, workers=1, progress=False)
    for frame in list_ground_truth_frames(root, "train"):
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, CLASSES)
        folder = root / "pseudo_semantic_mapped_truth" / "train" / frame.image.parent.name
        write_png(folder / f"{frame.stem}.png", target.categories.astype(np.uint8))
    make_depth(["--cityscapes_root", str(root), "--source", "disparity"])
    return root


def common(root: Path) -> list[str]:
    return ["--cityscapes_root", str(root), "--semantic_subdir", "pseudo_semantic_mapped_truth"]


def test_classify__road_users_are_things_the_city_is_stuff(toy_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    classify([*common(toy_root), "--output_json", str(path), "--num_semantic_classes", "19"])
    things = {CLASSES.names[index] for index in read_split(path).things}
    assert {"person", "car"} <= things
    city = {"road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "sky"}
    assert not things & city


def car_quality(root: Path, results: Path, *more: str) -> float:
    make_instances([*common(root), "--method_name", "trial", "--overwrite", *more])
    evaluate(
        [*common(root), "--split", "train", "--instance_subdir", "pseudo_instance_trial"]
        + ["--results", str(results)]
    )
    return read_results(results.with_suffix(".json"))[0].per_class["car"]["pq"]


def test_instances__depth_tells_cars_apart(toy_root: Path, tmp_path: Path) -> None:
    # Measured: 66 without depth, 77 with it; depth alone, with the semantics only for names, 53.
    plain = car_quality(toy_root, tmp_path / "plain", "--no_depth")
    assert car_quality(toy_root, tmp_path / "classes") > plain + 0.05
    assert car_quality(toy_root, tmp_path / "objects", "--proposals", "objects") > 0.4
