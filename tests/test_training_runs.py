"""Whole training runs on a tiny rendered city: 300 pseudo-classes, precisions, two processes, bad batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
import val
from cups.data.toy_streets import write_dataset
from cups.layout import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.ops.png import read_ids, write_png
from cups.taxonomy import void_value

ROOT = Path(__file__).resolve().parents[1]
SIZE = (64, 128)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    write_dataset(root, train_frames=4, val_frames=2, height=64, width=128, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def label(city: Path) -> Callable[[int], Path]:
    """Return a function that writes pseudo-labels of K classes and returns their folder.

    Stuff is a chequerboard of classes 0..K-3, so that 300 classes have pixels; things are two large
    rectangles of the classes K-2 and K-1; a strip is void.
    """

    def write(count: int) -> Path:
        folder = city / f"labels_{count}"
        void = void_value(count)
        rows, columns = np.indices(SIZE)
        semantic = ((rows // 5) * 26 + columns // 5) % (count - 2)
        instance = np.zeros(SIZE, np.uint16)
        for number, left in enumerate((10, 70), start=1):
            semantic[20:56, left : left + 40] = count - 3 + number
            instance[20:56, left : left + 40] = number
        semantic[:3] = void
        frames = sorted((city / "leftImg8bit" / "train").glob("*/*_leftImg8bit.png"))
        for frame in frames:
            stem = frame.name.removesuffix("_leftImg8bit.png")
            dtype = np.uint8 if count <= 254 else np.uint16
            write_png(folder / f"{stem}{SEMANTIC_SUFFIX}", semantic.astype(dtype))
            write_png(folder / f"{stem}{INSTANCE_SUFFIX}", instance)
        known = semantic[semantic != void]
        inside = semantic[instance > 0]
        statistics = {
            key: torch.from_numpy(np.bincount(part, minlength=count)).float() * len(frames)
            for key, part in ((ALL_PIXELS, known), (INSIDE_INSTANCES, inside))
        }
        torch.save(statistics, folder / "split_1.pt")
        return folder

    return write


def _arguments(city: Path, labels: Path, logs: Path, name: str, *more: object) -> list[str]:
    config = ROOT / "configs" / "demo_toy.yaml"
    return [
        *("--experiment_config_file", str(config), "--disable_wandb", "--data_root", str(city)),
        *("--pseudo_root", str(labels), "--log_path", str(logs), "--run_name", name, "--batch_size", "2"),
        *("SYSTEM.NUM_WORKERS", "0", "DATA.CROP_RESOLUTION", str(SIZE), "TRAINING.PRECISION", "32"),
        *("TRAINING.VAL_EVERY_N_STEPS", "2", "TRAINING.LOG_EVERY_N_STEPS", "1"),
        *("TRAINING.LOG_MEDIA_N_STEPS", "2", *map(str, more)),
    ]


def _logged(run: Path) -> list[dict[str, str]]:
    with next(run.glob("csv/version_0/metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def test_train_and_val__three_hundred_pseudo_classes(
    city: Path, label: Callable[[int], Path], tmp_path: Path
) -> None:
    """Upstream's and our first label format end at 254 classes: channel 255 was the ignore value."""
    arguments = _arguments(city, label(300), tmp_path, "k300", "TRAINING.CLASS_WEIGHTING", "True")
    assert train.main([*arguments, "--steps", "2"]) == 0
    last = tmp_path / "k300" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    assert len(stored["hyper_parameters"]["stuff_pseudo_classes"]) == 298
    assert all(torch.isfinite(tensor).all() for tensor in stored["state_dict"].values())
    assert (tmp_path / "k300" / "media" / "step_000002.png").is_file()
    evaluation = [*arguments, "--checkpoint", str(last), "--visualize_results"]
    assert val.main([*evaluation, "--output_dir", str(tmp_path / "val")]) == 0
    results = json.loads((tmp_path / "val" / "results.json").read_text())["results"]
    assert len(results[0]["assignment"]) == 300 and set(results[0]["assignment"]) <= {*range(19), 255}
    assert len(list((tmp_path / "val" / "overlays").glob("*.png"))) == 2


def test_train__speed_and_memory_are_logged(city: Path, label: Callable[[int], Path], tmp_path: Path) -> None:
    arguments = _arguments(city, label(20), tmp_path, "speed", "TRAINING.PRECISION", "bf16")
    assert train.main([*arguments, "--steps", "3", "TRAINING.LOG_EVERY_N_STEPS", "2"]) == 0
    rows = [row for row in _logged(tmp_path / "speed") if row["speed/images_per_second"]]
    assert [row["step"] for row in rows] == ["2"]
    assert 0 < float(rows[0]["speed/images_per_second"]) < 1000
    assert 0 <= float(rows[0]["speed/data_wait"]) < 1
    assert 0.05 < float(rows[0]["memory/peak_gb"]) < 100
