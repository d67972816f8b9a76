"""Fine-tuning on ground truth: what is taken over, what is said of it, and a whole run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import cups
import train
import val
from cups.builders import ground_truth
from cups.builders.evaluation import (
    identity_assignment,
    known_classes,
    load_for_evaluation,
    panoptic_protocol,
)
from cups.builders.ground_truth import (
    Overlaps,
    begin_with,
    class_rows,
    count_overlaps,
    learns_from_ground_truth,
)
from cups.builders.stage2 import build_model, build_training_data
from cups.config import build_config
from cups.data import CityscapesPanopticValidation, GroundTruthFrames
from cups.errors import UserError
from cups.io import checkpoint as files
from cups.io.checkpoint import Checkpoint
from cups.model import panoptic_cascade_mask_r_cnn
from cups.structures import PseudoClasses, ThingStuffSplit
from cups.taxonomy import class_set
from tests.cups.conftest import TINY, make_tiny

CLASSES = class_set(19)
SPLIT = ThingStuffSplit(CLASSES.things, CLASSES.stuffs)
ROWS = class_rows(CLASSES)
SMALL = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"


def _fresh() -> torch.nn.Module:
    torch.manual_seed(1)
    return panoptic_cascade_mask_r_cnn(8, 12, model_config=SMALL, model_overrides=TINY)


def _checkpoint(model: torch.nn.Module, **stored: Any) -> Checkpoint:
    return Checkpoint(Path("self.ckpt"), {k: v.clone() for k, v in model.state_dict().items()}, stored)


def _overlaps() -> Overlaps:
    """Old stuff 0 and 2 lie on class 5 of the new, 1 on class 0, 3 nowhere; old things 0 and 1 on thing 2."""
    stuffs, things = torch.zeros(4, 11, dtype=torch.float64), torch.zeros(3, 8, dtype=torch.float64)
    stuffs[0, 5], stuffs[2, 5], stuffs[2, 3], stuffs[1, 0] = 30, 10, 4, 7
    things[0, 2], things[1, 2] = 5, 5
    return Overlaps(stuffs, things)


def test_begin_with__all_but_the_classes_is_taken_over() -> None:
    old, model = make_tiny(), _fresh()
    built = {name: value.clone() for name, value in model.state_dict().items()}
    begin_with(model, _checkpoint(old, thing_pseudo_classes=[0, 1, 2]), SPLIT, ROWS, _overlaps)
    before, now = old.state_dict(), model.state_dict()
    layers = {
        name.rpartition(".")[0]
        for name in now
        if now[name].shape != before[name].shape or not torch.equal(now[name], before[name])
    }
    stages = {f"roi_heads.box_predictor.{stage}.cls_score" for stage in range(3)}
    assert layers == {"sem_seg_head.predictor", "roi_heads.mask_head.predictor", *stages}
    name = "sem_seg_head.predictor.weight"
    assert torch.equal(now[name][0], before[name][0]), "some thing"
    assert torch.equal(now[name][1], before[name][2])
    torch.testing.assert_close(now[name][6], 0.75 * before[name][1] + 0.25 * before[name][3])
    others = [1 + number for number in range(11) if number not in (0, 5)]
    assert torch.equal(now[name][others], built[name][others])
    for name in (f"{stage}.weight" for stage in stages):
        assert torch.equal(now[name][-1], before[name][-1]), "background"
        torch.testing.assert_close(now[name][2], before[name][:2].mean(0))
        assert torch.equal(now[name][[0, 1, 3]], built[name][[0, 1, 3]])
    for name in (f"{stage}.bias" for stage in stages):  # two classes of equal logits: the sum of both
        torch.testing.assert_close(now[name][2], before[name][:2].mean(0) + np.log(2))
    name = "roi_heads.mask_head.predictor.weight"
    torch.testing.assert_close(now[name][2], before[name][:2].mean(0))
    assert torch.equal(now[name][0], before[name].mean(0))


def _never() -> Overlaps:
    raise AssertionError("nothing is to be matched")


def test_begin_with__the_same_classes_are_taken_over_whole() -> None:
    old, model = _fresh(), _fresh()
    with torch.no_grad():
        for parameter in old.parameters():
            parameter += 1
    sides = {"thing_pseudo_classes": list(SPLIT.things), "stuff_pseudo_classes": list(SPLIT.stuffs)}
    begin_with(model, _checkpoint(old, classes=ROWS, **sides), SPLIT, ROWS, _never)
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in model.state_dict().items())


def test_count_overlaps__of_a_network_that_is_right(tiny_city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in says the classes in falling order: the counts are those of the labels, turned."""
    truth = CityscapesPanopticValidation(tiny_city, "train", 19)
    data = GroundTruthFrames(truth, scale=1.0, crop=(96, 192), ignore_unknown_things=False)
    samples = [data.load(index) for index in range(len(data))]

    class Right(torch.nn.Module):
        def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
            (sample,) = (s for s in samples if torch.equal(s.image, batch[0]["image"]))
            channels = torch.where(sample.sem_seg > 11, 0, sample.sem_seg)
            turned = torch.where(channels > 0, 12 - channels, 0)
            logits = torch.nn.functional.one_hot(turned, 12).permute(2, 0, 1).float()
            found = SimpleNamespace(pred_masks=sample.masks, pred_classes=7 - sample.classes)
            return [{"sem_seg": logits, "instances": found}]

    monkeypatch.setattr(ground_truth, "network_of", lambda *_: (Right(), PseudoClasses(8, 11)))
    counts = count_overlaps(_checkpoint(torch.nn.Identity()), data)
    for name, part in (("stuffs", counts.stuffs), ("things", counts.things)):
        assert torch.equal(part, part.flip(0).diag().diag().flip(0)), name
    expected = data.all_pixels[list(SPLIT.stuffs)]
    assert torch.equal(counts.stuffs.flip(0).diag(), expected)


def test_begin_with__another_architecture_is_one_line() -> None:
    model = _fresh()
    old = _checkpoint(make_tiny("MODEL.ROI_BOX_HEAD.FC_DIM", 64))
    with pytest.raises(UserError, match=r"self\.ckpt: weights of another network .* set MODEL\.CONFIG"):
        begin_with(model, old, SPLIT, ROWS, _never)


def test_learns_from_ground_truth__a_share_needs_it() -> None:
    assert not learns_from_ground_truth(build_config())
    assert learns_from_ground_truth(
        build_config(None, ["DATA.GROUND_TRUTH", True, "DATA.LABEL_FRACTION", 0.1])
    )
    with pytest.raises(UserError, match=r"DATA\.LABEL_FRACTION is 0\.1, a share of the ground truth"):
        learns_from_ground_truth(build_config(None, ["DATA.LABEL_FRACTION", 0.1]))
    with pytest.raises(UserError, match=r"DATA\.LABEL_FRACTION is 0\.0; it must be above 0"):
        build_config(None, ["DATA.LABEL_FRACTION", 0])


def test_identity_assignment__by_name_and_kind() -> None:
    known = identity_assignment(ROWS, SPLIT, CLASSES)
    assert known is not None and known.tolist() == [*SPLIT.stuffs, *SPLIT.things]
    turned = ROWS[::-1]
    split = ThingStuffSplit(tuple(range(8)), tuple(range(8, 19)))
    known = identity_assignment(turned, split, CLASSES)
    assert known is not None and known.tolist() == [18 - number for number in (*split.stuffs, *split.things)]
    assert identity_assignment(ROWS, SPLIT, class_set(27)) is None
    assert identity_assignment(None, SPLIT, CLASSES) is None
    other = [{**row, "isthing": not row["isthing"]} for row in ROWS]
    assert identity_assignment(other, SPLIT, CLASSES) is None


def test_panoptic_protocol__says_that_nothing_was_matched() -> None:
    config = build_config()
    assert "classes by name (no matching)" in str(panoptic_protocol(config, named=True))
    assert "Hungarian" in str(panoptic_protocol(config))


@pytest.fixture
def run(tiny_city: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that fine-tunes for a step; it returns the checkpoint."""

    def start(name: str, *more: object) -> Path:
        overrides = {TINY[i]: TINY[i + 1] for i in range(0, len(TINY), 2)}
        pairs = ("MODEL.OVERRIDES", repr(overrides), "MODEL.CONFIG", SMALL, "SYSTEM.NUM_WORKERS", 0)
        pairs += ("DATA.SCALE", 1.0, "DATA.CROP_RESOLUTION", "(96, 192)", "TRAINING.PRECISION", 32)
        pairs += ("SYSTEM.ACCELERATOR", "cpu", "AUGMENTATION.RESOLUTIONS", "()", "MODEL.USE_DINO", False)
        where = ("--data_root", tiny_city, "--log_path", tmp_path, "--run_name", name, "--disable_wandb")
        flags = ("--ground_truth", "--steps", 1, "--batch_size", 1, "--val_every", 50)
        assert train.main([str(part) for part in (*flags, *where, *more, *pairs)]) == 0
        return tmp_path / name / "checkpoints" / "last.ckpt"

    return start


def test_build_model__from_weights_of_dino(tiny_city: Path, tmp_path: Path) -> None:
    """Its published file holds arrays by detectron2's names; the trunk begins with them, heads at random."""
    pairs = ["MODEL.CONFIG", SMALL, "MODEL.OVERRIDES", tuple(TINY), "DATA.GROUND_TRUTH", True]
    pairs += ["DATA.ROOT", str(tiny_city), "DATA.SCALE", 1.0, "DATA.CROP_RESOLUTION", (96, 192)]
    data = build_training_data(build_config(None, [*pairs, "MODEL.USE_DINO", False]))
    torch.manual_seed(7)
    other = build_model(build_config(None, [*pairs, "MODEL.USE_DINO", False]), data).state_dict()
    start = "backbone.bottom_up."
    trunk = {n.removeprefix(start): v.numpy() for n, v in other.items() if n.startswith(start)}
    file = tmp_path / "dino_RN50_pretrain_d2_format.pkl"
    file.write_bytes(pickle.dumps({"model": trunk, "matching_heuristics": True}))
    model = build_model(build_config(None, [*pairs, "MODEL.BACKBONE_CHECKPOINT", str(file)]), data)
    same = {name: torch.equal(value, other[name]) for name, value in model.state_dict().items()}
    assert all(same[name] for name in same if name.startswith(start))
    assert not same["sem_seg_head.predictor.weight"] and data.split == SPLIT


def test_train_and_val__classes_of_the_data_set(
    run: Callable[..., Path], tiny_city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share from random weights, then all of it from that; the results need no matching."""
    first = run("first", "--label_fraction", 0.01)
    told = cups.network.load_checkpoint(first)
    assert told.provenance["uses_ground_truth"] is True
    labelled = told.section("provenance", "ground_truth")
    assert (labelled["frames"], labelled["of"], labelled["fraction"]) == (1, 6, 0.01)
    last = run("second", "--checkpoint", first, "--trainable", "heads")
    then = cups.network.load_checkpoint(last)
    assert then.provenance["start"]["ground_truth"]["fraction"] == 0.01
    moved = {n for n, v in then.state.items() if not torch.equal(v, told.state[n])}
    assert moved and all("head" in name for name in moved)
    network = cups.load(last)
    assert network.categories.names == CLASSES.names and network.categories.provenance["uses_ground_truth"]
    assert network.categories.table.tolist() == [*CLASSES.stuffs, *CLASSES.things]
    config = build_config(None, ["MODEL.CHECKPOINT", str(last)])
    evaluated = load_for_evaluation(config)
    assert not evaluated.checkpoint.state, "the weights are in the model"
    assert known_classes(evaluated, config).tolist() == [*CLASSES.stuffs, *CLASSES.things]
    opened, read = [], files.read_file
    monkeypatch.setattr(files, "read_file", lambda path, *rest: opened.append(path) or read(path, *rest))
    flags = ("--checkpoint", last, "--data_root", tiny_city, "--output_dir", tmp_path / "val")
    assert val.main([*map(str, flags), "SYSTEM.NUM_WORKERS", "0", "DATA.VAL_SCALE", "1.0"]) == 0
    assert opened == [last], "it was opened, and verified, for the network, its classes and its provenance"
    results = json.loads((tmp_path / "val" / "results.json").read_text())["results"]
    assert results[0]["assignment"] == [*CLASSES.stuffs, *CLASSES.things]
    assert "classes by name (no matching)" in results[0]["protocol"]
    assert "Ground truth used to make it: YES" in (tmp_path / "val" / "results.md").read_text()
    # Another class set: its classes are matched, and it says so.
    coarse = build_config(None, ["MODEL.CHECKPOINT", str(last), "DATA.NUM_CLASSES", 7])
    assert known_classes(evaluated, coarse) is None
    assert np.isfinite(results[0]["metrics"]["pq"])
