"""Training of depth from video: a few steps on two rendered sequences, resume, bad input."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cups.errors import NothingFound, Stopped, UserError
from cups.io.png import read_image, write_png
from pseudo_labels.networks.depth_network import load_depth_network
from pseudo_labels.networks.depth_training import DepthFit
from pseudo_labels.train_spidepth import main

SMALL = [
    "--device",
    "cpu",
    "--precision",
    "32",
    "--height",
    "64",
    "--width",
    "128",
    "--crop_bottom",
    "0",
    "--backbone",
    "test_resnet",
    "--dec_channels",
    "16",
    "16",
    "16",
    "16",
    "--model_dim",
    "16",
    "--patch_size",
    "8",
    "--query_nums",
    "8",
    "--dim_out",
    "8",
    "--feedforward",
    "32",
    "--pose_backbone",
    "test_resnet",
    "--pose_scale",
    "0.5",
    "--batch_size",
    "2",
]


@pytest.fixture(scope="module")
def streets(make_folder: Callable[[str], Path], write_city: Callable[[Path, str], Path]) -> Path:
    return write_city(make_folder("streets"), "small")


def _train(root: Path, folder: Path, *extra: str) -> dict[str, torch.Tensor]:
    arguments = ["--cityscapes_root", str(root), "--checkpoint_dir", str(folder), *SMALL, *extra]
    assert main(arguments) == 0
    return torch.load(folder / "depth.pth", weights_only=True)


def test_main__writes_what_the_generator_reads(streets: Path, tmp_path: Path) -> None:
    _train(streets, tmp_path, "--steps", "3")
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["backbone"] == "test_resnet" and settings["dec_channels"] == [16] * 4
    encoder = torch.load(tmp_path / "encoder.pth", weights_only=True)
    assert encoder["height"] == 64 and encoder["width"] == 128 and encoder["use_stereo"] is False
    network, loaded = load_depth_network(tmp_path)
    assert loaded.crop_bottom == 0.0
    with torch.inference_mode():
        depth = network(torch.rand(1, 3, 64, 128))
    assert depth.shape == (1, 1, 32, 64) and (depth > 0).all()
    assert torch.load(tmp_path / "pose.pth", weights_only=True)
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False


def test_main__resumed_equals_uninterrupted(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train(streets, tmp_path / "whole", "--steps", "3")
    losses = DepthFit.losses

    def told(self: DepthFit, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DepthFit, "losses", told)
        with pytest.raises(Stopped, match="stopped at step 2"):
            _train(streets, tmp_path / "cut", "--steps", "3")
    assert not (tmp_path / "cut" / "depth.pth").exists()
    resumed = _train(streets, tmp_path / "cut", "--steps", "3")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_main__a_finished_training_run_again_writes_the_same_bytes(streets: Path, tmp_path: Path) -> None:
    """Else its depth maps would count as made with other weights whenever a whole script runs again."""
    names = ("encoder.pth", "depth.pth", "settings.json")
    _train(streets, tmp_path, "--steps", "2")
    first = [(tmp_path / name).read_bytes() for name in names]
    _train(streets, tmp_path, "--steps", "2")
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_main__a_camera_that_stands_still_teaches_nothing(streets: Path, tmp_path: Path) -> None:
    """Weights and a flat depth were written all the same."""
    image = read_image(next((streets / "leftImg8bit").rglob("*.png")))
    for number in range(3):
        write_png(tmp_path / "still" / f"{number}.png", image)
    given = ["--image_dir", tmp_path / "still", "--focal", "1", "--output_root", tmp_path, "--steps", "1"]
    with pytest.raises(NothingFound, match=r"still: the camera stands still \(0\.0 % of the edges move"):
        main([*map(str, given), *SMALL])
    assert not (tmp_path / "spidepth").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    (
        (("--query_nums", "200"), "tokens, fewer than `query_nums`"),
        (("--patch_size", "1"), "there are 500 positions"),
        (("--height", "60"), "multiple of 32"),
        (("--crop_bottom", "1"), "below 1"),
        (("--min_depth", "90"), "`max_depth`"),
        (("--offsets", "0", "1"), "`offsets`"),
        (("--focal", "-1"), "`focal`"),
        (("--pose_scale", "0"), "`pose_scale`"),
        (("--backbone", "no_such_model"), "`backbone` no_such_model"),
        (("--pose_backbone", "no_such_model"), "`pose_backbone` no_such_model"),
        (("--encoder_checkpoint", "missing.pth"), "missing.pth"),
        (("--offsets", "50"), "no frame has a neighbour"),
    ),
)
def test_main__bad_input(streets: Path, tmp_path: Path, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _train(streets, tmp_path, "--steps", "1", *extra)
    assert not list(tmp_path.glob("*.pth"))
