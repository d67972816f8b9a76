"""cups_inference_val.py: what it saves scores, by an independent count, as val.py scores the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cups_inference_val
import numpy as np
import pytest
import torch

import val
from cups.builders import scoring
from cups.builders.evaluation import EvaluatedNetwork
from cups.data import CityscapesPanopticValidation
from cups.errors import UserError
from cups.evaluation.comparison import compare, rows_of
from cups.evaluation.results import read_results
from cups.io.checkpoint import load_checkpoint
from cups.io.coco_panoptic import from_rgb
from cups.io.png import read_image
from cups.taxonomy import class_set

Run = Callable[..., Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_city: Path, oracle: Any) -> Run:
    """Return a function that runs a script with the stand-in network; it returns the output folder."""
    checkpoint = tmp_path / "model.ckpt"
    provenance = {"uses_ground_truth": True}
    content = {"state_dict": {"model.w": torch.ones(1)}, "hyper_parameters": {"provenance": provenance}}
    torch.save(content, checkpoint)
    monkeypatch.setattr(
        scoring,
        "load_for_evaluation",
        lambda config: EvaluatedNetwork(oracle, oracle.PSEUDO, load_checkpoint(config.MODEL.CHECKPOINT)),
    )

    def start(module: Any, output: str, *more: object) -> Path:
        flags = ["--checkpoint", checkpoint, "--data_root", tiny_city, "--output_dir", tmp_path / output]
        flags += ["--num_workers", 0, "DATA.VAL_SCALE", "1.0", *more]
        assert module.main([str(flag) for flag in flags]) == 0
        return tmp_path / output

    return start


def literal_pq(folder: Path, json_file: Path, city: Path) -> float:
    """Count panoptic quality segment by segment as the paper defines it (Kirillov et al. 2019, section 4).

    A ground-truth segment is a (class, object) pair; a thing without number is a crowd.
    """
    content = json.loads(json_file.read_text())
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    truth = {item.name: item.ground_truth().pairs for item in CityscapesPanopticValidation(city)}
    iou, hits, wrong, missed = (np.zeros(19) for _ in range(4))
    for annotation in content["annotations"]:
        ids = from_rgb(read_image(folder / annotation["file_name"]))
        target = truth[Path(annotation["file_name"]).stem]
        gt_ids = target[..., 0] * 1000 + np.where(np.isin(target[..., 0], list(things)), target[..., 1], 0)
        void = target[..., 0] == 255
        ground_truth = [int(g) for g in np.unique(gt_ids[~void])]
        crowds = [g for g in ground_truth if g // 1000 in things and g % 1000 == 0]
        matched = set()
        for segment in annotation["segments_info"]:
            mask, kind = ids == segment["id"], segment["category_id"]
            assert mask.sum() == segment["area"] > 0
            found = False
            for g in ground_truth:
                if g // 1000 != kind or g in crowds:
                    continue
                gt_mask = gt_ids == g
                overlap = (mask & gt_mask).sum()
                union = mask.sum() + gt_mask.sum() - overlap - (mask & void).sum()
                if overlap / union > 0.5:
                    found = True
                    matched.add(g)
                    iou[kind] += overlap / union
                    hits[kind] += 1
            ignored = void | np.isin(gt_ids, [g for g in crowds if g // 1000 == kind])
            wrong[kind] += not found and (mask & ignored).sum() / mask.sum() <= 0.5
        for g in ground_truth:
            missed[g // 1000] += g not in matched and g not in crowds
    weight = hits + wrong / 2 + missed / 2
    return float((iou[weight > 0] / weight[weight > 0]).mean())


def test_main__saved_files_score_as_val_does(run: Run, tiny_city: Path, oracle: Any) -> None:
    folder = run(cups_inference_val, "coco")
    (expected, upstream, *_) = read_results(run(val, "val") / "results.json")
    pq = literal_pq(folder / "panoptic", folder / "panoptic.json", tiny_city)
    assert pq == pytest.approx(expected.metrics["pq"], abs=1e-12) and 0.3 < pq < 0.95
    saved, _ = read_results(folder / "results.json")
    assert saved.metrics == expected.metrics != upstream.metrics
    content = json.loads((folder / "panoptic.json").read_text())
    assert [c["name"] for c in content["categories"]] == list(class_set(19).names)
    assert content["images"][0]["file_name"].endswith("_leftImg8bit.png")


def test_main__rows_stand_beside_the_results(run: Run, rows_agree: Callable[[Path], None]) -> None:
    for module, output in ((cups_inference_val, "coco"), (val, "val")):
        stem = run(module, output) / "results"
        rows_agree(stem)
        assert len(rows_of(stem).names) == 3
    text = compare(stem.parents[1] / "coco", stem)
    assert "+0.0 to +0.0" in text and "- 3 frames" in text


def test_main__results_say_where_they_come_from(run: Run) -> None:
    folder = run(cups_inference_val, "coco")
    result = read_results(folder / "results.json")[0]
    assert len(result.checkpoint["sha256"]) == 64 and result.provenance == {"uses_ground_truth": True}
    assert result.config["DATA"]["VAL_SCALE"] == 1.0 and result.code_version
    report = (folder / "results.md").read_text()
    assert result.checkpoint["sha256"] in report and "Ground truth used to make it: YES" in report


def test_main__a_second_run_predicts_only_what_is_missing(run: Run, oracle: Any) -> None:
    folder = run(cups_inference_val, "coco")
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert oracle.frames_seen == 3
    damaged, removed, _ = sorted((folder / "raw").glob("*.png"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    removed.unlink()
    run(cups_inference_val, "coco")
    assert oracle.frames_seen == 5
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first


def test_main__frames_whose_image_is_newer_are_predicted_again(
    run: Run, oracle: Any, tiny_city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(cups_inference_val, "coco")
    image = sorted((tiny_city / "leftImg8bit" / "val").rglob("*.png"))[1]
    written = (folder / "raw" / f"{image.stem.removesuffix('_leftImg8bit')}.png").stat().st_mtime_ns

    def when(path: Path) -> int:  # the city is shared by other tests: its files stay as they are
        return written + 1 if path == image else path.stat().st_mtime_ns

    monkeypatch.setattr("cups.evaluation.panoptic_export.changed", when)
    run(cups_inference_val, "coco")
    assert oracle.frames_seen == 4


def test_main__predictions_of_other_settings_are_not_mixed(run: Run) -> None:
    run(cups_inference_val, "coco")
    with pytest.raises(UserError, match=r"another MODEL\.INFERENCE_CONFIDENCE_THRESHOLD; remove it, or"):
        run(cups_inference_val, "coco", "MODEL.INFERENCE_CONFIDENCE_THRESHOLD", "0.7")


def test_main__raw_pseudo_classes(run: Run) -> None:
    folder = run(cups_inference_val, "coco", "--raw")
    content = json.loads((folder / "raw.json").read_text())
    assert [c["isthing"] for c in content["categories"]] == [0] * 12 + [1] * 9
    used = {s["category_id"] for a in content["annotations"] for s in a["segments_info"]}
    assert 11 in used and max(used) >= 12


def test_val__writes_every_protocol_under_both_rules(run: Run) -> None:
    results = read_results(run(val, "val", "VALIDATION.SEMSEG_CENTER_CROP_SIZE", "80") / "results.json")
    lines = [(r.name.partition(", ")[2], r.void_rule) for r in results]
    names = ("", "semantic head", "panoptic output (crop 80)", "semantic head (crop 80)")
    assert lines == [(name, rule) for name in names for rule in ("standard", "upstream")]
    assert "semantic-19-crop80" in results[-1].protocol and "centre crop 80x80" in results[-1].protocol
