"""Scores of folders in the CUPS format, at every resolution that training takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from cups.builders.evaluation import build_metric, build_validation_data
from cups.builders.stage2 import build_training_data
from cups.config import build_config
from cups.data import PseudoLabelDataset
from cups.errors import UserError
from cups.evaluation.results import Result, read_results
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE
from cups.io.png import read_ids, write_png
from cups.model.inputs import panoptic_map_from_output, to_detectron2
from cups.model.modeling.meta_arch.merge import Instances, decide_semantic, merge_panoptic
from cups.ops.panoptic_map import PanopticMap
from pseudo_labels.evaluation.evaluate_cascade_pseudolabels import main

ENDS = (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)
COPIED = ("pq", "pq_things", "pq_stuff", "miou")


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


def change(root: Any, how: Callable[[np.ndarray, np.ndarray], None]) -> None:
    """Change semantics and instances of all labels in place."""
    for stem in root.stems:
        files = [root.path / "cups_pseudo_labels" / f"{stem}{end}" for end in ENDS]
        maps = [read_ids(file).copy() for file in files]
        how(*maps)
        for file, ids in zip(files, maps, strict=True):
            write_png(file, ids)


def displace(classes: np.ndarray, ids: np.ndarray) -> None:
    """Move labels, and paint blocks of other clusters outside instances: no score is 0 or 1 any more."""
    rng = np.random.default_rng(5)
    classes[:], ids[:] = (np.roll(part, (2, 3), axis=(0, 1)) for part in (classes, ids))
    for _ in range(12):
        top, left = rng.integers(0, 56), rng.integers(0, 112)
        block = np.s_[top : top + 8, left : left + 16]
        classes[block][ids[block] == 0] = rng.integers(0, 6)


def mix(classes: np.ndarray, ids: np.ndarray) -> None:
    """Give most pixels of an instance a cluster of stuff, on top of `displace`."""
    displace(classes, ids)
    classes[(ids == 1) & (np.random.default_rng(5).random(ids.shape) < 0.7)] = 0


def propose_road(classes: np.ndarray, ids: np.ndarray) -> None:
    """Make a block of road an instance."""
    displace(classes, ids)
    classes[-8:, :24], ids[-8:, :24] = 5, ids.max() + 1


def leave_void(classes: np.ndarray, ids: np.ndarray) -> None:
    """Void that block instead."""
    classes[-8:, :24], ids[-8:, :24] = 255, 0


class Copy:
    """A network whose output is the training label of a frame: the real merge on certain probabilities."""

    def __init__(self, data: PseudoLabelDataset) -> None:
        self.data = data

    def __call__(self, index: int) -> PanopticMap:
        """Return the panoptic output in the network's categories."""
        pseudo = self.data.split.pseudo_classes
        learnt = to_detectron2(self.data.load(index))
        channel = learnt["sem_seg"]
        channel = torch.where(channel > pseudo.stuffs, 0, channel)  # void: no stuff either
        probabilities = one_hot(channel, pseudo.stuffs + 1).permute(2, 0, 1).float()
        objects = learnt["instances"]
        found = Instances(tuple(channel.shape), pred_masks=objects.gt_masks.tensor)
        found.scores, found.pred_classes = torch.ones(len(objects)), objects.gt_classes
        panoptic = merge_panoptic(found, decide_semantic(probabilities, True), stuff_area_limit=0)
        return panoptic_map_from_output({"panoptic_seg": panoptic}, pseudo)


def scores_of_copy(root: Any, **keys: Any) -> dict[str, dict[str, float]]:
    """Scores of a network that copies its training labels, by void rule."""
    keys = {
        "DATA.SCALE": 1.0,
        "DATA.CROP_RESOLUTION": (64, 128),
        "DATA.ONLY_NON_EMPTY_SAMPLES": False,
        **keys,
    }
    keys |= {"DATA.VAL_SCALE": 1.0, "DATA.VAL_SPLIT": "train"}
    flags = {"data_root": str(root.path), "pseudo_root": str(root.path / "cups_pseudo_labels")}
    config = build_config(None, [part for pair in keys.items() for part in pair], flags)
    data, truth = build_training_data(config), build_validation_data(config)
    metric, copy = build_metric(config, data.split.pseudo_classes), Copy(data)
    for index in range(len(truth)):
        frame = truth[index]
        assert frame.name == data.stems[index]
        metric.update([copy(index)], [frame.ground_truth(metric.void)], image_ids=[index])
    return {
        rule: {name: float(values[name]) for name in COPIED} for rule, values in metric.compute_all().items()
    }


def scores_of_labels(root: Any, *more: str) -> dict[str, dict[str, float]]:
    """Scores of the labels, by void rule."""
    scores(root, *more)
    found = {r.void_rule: r for r in read_results(root.path / "out.json") if r.name == "cups_pseudo_labels"}
    return {rule: {name: result.metrics[name] for name in COPIED} for rule, result in found.items()}


def assert_same(one: dict[str, dict[str, float]], two: dict[str, dict[str, float]]) -> None:
    assert set(one) == set(two) == {"standard", "upstream"}
    for rule, metrics in one.items():
        assert metrics == pytest.approx(two[rule], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("how", [None, displace, mix])
@pytest.mark.parametrize("split", ["stated", "published rule", "threshold"])
def test_scores__are_those_of_a_network_that_copies_its_labels(
    perfect_root: Any, split: str, how: Callable[..., None] | None
) -> None:
    """Training divided things from stuff anew, and lost 2 PQ before the first step.

    And it took the class of most pixels for that of an instance, where labels are scored by their things.
    """
    if how is not None:
        change(perfect_root, how)
    if split != "stated":
        (perfect_root.path / "cups_pseudo_labels" / SPLIT_FILE).unlink()
    threshold = 0.3 if split == "threshold" else None
    labels = scores_of_labels(perfect_root, *(["--thing_stuff_threshold", "0.3"] if threshold else []))
    copied = scores_of_copy(perfect_root, **{"DATA.THING_STUFF_THRESHOLD": threshold})
    assert_same(copied, labels)
    assert how is None or 0.5 < copied["standard"]["pq"] < 0.9


def test_scores__a_copy_knows_nothing_of_instances_of_stuff(perfect_root: Any) -> None:
    """The one difference, which is CUPS's own: training ignores them, though the map names their stuff."""
    change(perfect_root, propose_road)
    labels, copied = scores_of_labels(perfect_root), scores_of_copy(perfect_root)
    assert labels["standard"]["miou"] > copied["standard"]["miou"] + 0.01
    change(perfect_root, leave_void)
    assert_same(copied, scores_of_labels(perfect_root))
