"""Devices, number formats, and how many images a network takes at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.png import write_png
from pseudo_labels import extract_dinov2_features, generate_depth_spidepth
from pseudo_labels.networks.devices import images_at_once, pick_device

TOY_DEPTH = Path(__file__).resolve().parents[3] / "refs" / "spidepth" / "toy"


def test_images_at_once__one_on_a_cpu() -> None:
    assert images_at_once(8, torch.device("cpu")) == 1
    assert images_at_once(8, torch.device("cuda:1")) == 8


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (generate_depth_spidepth.main, ["--checkpoint_dir", str(TOY_DEPTH)]),
        (extract_dinov2_features.main, ["--backbone", "texton"]),
    ],
    ids=["depth", "features"],
)
def test_steps__shards_and_batches_do_not_change_a_byte(
    main: Callable[[list[str]], int], flags: list[str], tmp_path: Path
) -> None:
    """In batches of four, depth differed in one pixel of 10,000 from that of three shards."""
    rng = np.random.default_rng(0)
    for index in range(4):
        write_png(tmp_path / "in" / f"{index}.png", rng.integers(0, 255, (96, 192, 3)).astype(np.uint8))

    def made(name: str, *runs: tuple[str, ...]) -> dict[str, bytes]:
        root = tmp_path / name
        for more in runs:
            where = ["--image_dir", str(tmp_path / "in"), "--output_root", str(root), "--device", "cpu"]
            assert main([*where, *flags, "--num_workers", "0", *more]) == 0
        return {file.name: file.read_bytes() for file in root.rglob("*.npy")}

    whole = made("whole", ("--batch_size", "4"))
    assert len(whole) == 4 and len(set(whole.values())) == 4
    assert made("single", ("--batch_size", "1")) == whole
    shards = [("--batch_size", "4", "--num_shards", "3", "--shard", str(index)) for index in range(3)]
    assert made("shards", *shards) == whole


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", "unknown device"), ("cuda:7", "this machine has"), ("cuda:0", "no CUDA device; use cpu")],
)
def test_pick_device__one_that_does_not_exist_is_named(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: name == "cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=f"^`device` {name}: .*{message}"):
        pick_device(name)
