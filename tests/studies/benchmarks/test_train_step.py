"""The benchmark of a training step runs on tiny images, and its contenders are what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import torch

from cups.model import to_detectron2
from studies.benchmarks import train_step as benchmark
from studies.benchmarks.settings import TrainStepSettings

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "train_step.py"))["main"]
TINY = [
    *("--size", "64", "128", "--batch_size", "1", "--repeats", "1", "--objects", "3", "--device", "cpu"),
    *("--config", "Panoptic-Cascade-Mask-R-CNN-Small.yaml"),
]
SETTINGS = TrainStepSettings(
    size=(64, 128),
    batch_size=1,
    repeats=1,
    objects=3,
    device="cpu",
    config="Panoptic-Cascade-Mask-R-CNN-Small.yaml",
)


def test_street__objects_are_disjoint_things() -> None:
    sample = benchmark.street((64, 128), 2, 3, 4, seed=1)
    assert sample.masks.sum(dim=0).max() == 1 and sample.masks.flatten(1).any(dim=1).all()
    assert torch.equal(sample.masks.any(dim=0), sample.sem_seg == 0)
    assert float(sample.image.min()) >= 0 and float(sample.image.max()) <= 1
    assert len(to_detectron2(sample)["instances"]) == 4


def test_plain_network__is_detectron2_with_our_weights() -> None:
    settings = SETTINGS
    ours = benchmark.panoptic_cascade_mask_r_cnn(8, 20, model_config=settings.config)
    plain = benchmark.plain_network(ours, settings)
    parts = (plain, plain.proposal_generator, plain.roi_heads, plain.sem_seg_head)
    assert {type(part).__module__.split(".")[0] for part in parts} == {"detectron2"}
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_main__table_and_json(tmp_path: Path, capsys: Any) -> None:
    assert MAIN([*TINY, "--channels_last", "--json", str(tmp_path / "times.json")]) == 0
    printed = capsys.readouterr().out
    assert "| plain detectron2" in printed and "64x128 pixels" in printed
    content = json.loads((tmp_path / "times.json").read_text())
    assert set(content["results"]) == {
        *("ours", "ours, pasting own finds", "upstream's habits", "plain detectron2", "ours, channels last")
    }
    assert all(row["images_per_second"] > 0 for row in content["results"].values())
