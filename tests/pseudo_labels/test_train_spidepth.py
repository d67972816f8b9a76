"""Training of depth from video: a few steps on two rendered sequences, resume, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cups.data.toy_streets import write_dataset
from cups.errors import UserError
from pseudo_labels.networks.depth_network import load_depth_network
from pseudo_labels.networks.depth_training import TRANSLATION_UNIT, halve
from pseudo_labels.train_spidepth import build_fit, build_parser, depth_settings, main
from refs.spidepth.layers import backproject, project
from refs.timm_models import create_model

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
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    return write_dataset(root, train_frames=4, val_frames=0, height=64, width=128, workers=1, progress=False)


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


def test_main__resumed_equals_uninterrupted(streets: Path, tmp_path: Path) -> None:
    whole = _train(streets, tmp_path / "whole", "--steps", "3", "--save_every", "2")
    _train(streets, tmp_path / "cut", "--steps", "3", "--save_every", "2")
    # As if killed after step 2: the later checkpoint is gone, `last` names the earlier one.
    checkpoints = tmp_path / "cut" / "checkpoints"
    (checkpoints / "last.ckpt").unlink()
    (checkpoints / "last.ckpt").symlink_to("ups_checkpoint_step=000002.ckpt")
    (checkpoints / "ups_checkpoint_step=000003.ckpt").unlink()
    resumed = _train(streets, tmp_path / "cut", "--steps", "3", "--save_every", "2")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_main__a_finished_training_run_again_writes_the_same_bytes(streets: Path, tmp_path: Path) -> None:
    """Else its depth maps would count as made with other weights whenever a whole script runs again."""
    names = ("encoder.pth", "depth.pth", "settings.json")
    _train(streets, tmp_path, "--steps", "2")
    first = [(tmp_path / name).read_bytes() for name in names]
    _train(streets, tmp_path, "--steps", "2")
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_losses__learn(streets: Path, tmp_path: Path) -> None:
    """Every network moves, and half-size comparison gives a loss of the same order."""
    arguments = ["--cityscapes_root", str(streets), *SMALL, "--steps", "2"]
    values = {}
    for stride in ("1", "2"):
        args = build_parser().parse_args([*arguments, "--loss_strides", stride])
        fit = build_fit(args, depth_settings(args))
        fit.log = lambda *_, **__: None  # type: ignore[method-assign]
        torch.manual_seed(0)
        batch = {
            "target": torch.rand(2, 3, 64, 128),
            "sources": torch.rand(2, 2, 3, 64, 128),
            "present": torch.tensor([[True, True], [False, True]]),
            "intrinsics": torch.tensor([[120.0, 0, 63.5], [0, 120.0, 31.5], [0, 0, 1]]).expand(2, 3, 3),
            "jitter": torch.ones(2, 3),
        }
        losses = fit.losses(batch)
        sum(losses.values()).backward()
        values[stride] = losses["reprojection"].item()
        for network in (fit.depth.encoder, fit.depth.depth_decoder, fit.pose):
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
            assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert 0.3 < values["2"] / values["1"] < 3


def test_poses__neighbours_before_and_after_are_inverse(streets: Path) -> None:
    """One motion per frame: what the next frame sees forwards, the previous one sees backwards."""
    args = build_parser().parse_args(["--cityscapes_root", str(streets), *SMALL])
    fit = build_fit(args, depth_settings(args))
    turn, shift = torch.randn(1, 3) * 0.1, torch.randn(1, 3)
    depth = torch.full((1, 1, 4, 4), 5.0)
    poses = fit.poses(turn.repeat(2, 1), shift.repeat(2, 1), depth)
    assert torch.allclose(poses[0, 0] @ poses[0, 1], torch.eye(4), atol=1e-4)
    # Translations count in mean depths.
    assert torch.allclose(poses[0, 1, :3, 3], TRANSLATION_UNIT * 5 * shift[0], atol=1e-4)


def test_halve__keeps_the_geometry() -> None:
    camera = torch.tensor([[50.0, 0, 15.5], [0, 52.0, 7.5], [0, 0, 1]])[None]
    target, sources = torch.rand(1, 3, 16, 32), torch.rand(1, 2, 3, 16, 32)
    small, smaller, scaled = halve(target, sources, camera)
    assert small.shape == (1, 3, 8, 16) and smaller.shape == (1, 2, 3, 8, 16)
    ray = backproject(torch.ones(1, 1, 16, 32), torch.linalg.inv(camera))
    # The centre of the corner pixel lies a quarter of a small pixel outside the small one's centre.
    grid = project(ray, scaled, torch.eye(4)[None], 16, 32)
    first = (grid[0, 0, 0] + 1) / 2 * torch.tensor([31.0, 15.0])
    assert torch.allclose(first, torch.tensor([-0.25, -0.25]), atol=1e-4)


def test_load_encoder__classifier_weights(tmp_path: Path, streets: Path) -> None:
    classifier = create_model("convnextv2_atto", pretrained=False)
    path = tmp_path / "weights.pth"
    torch.save(classifier.state_dict(), path)
    small = [*SMALL, "--cityscapes_root", str(streets), "--encoder_checkpoint", str(path)]
    args = build_parser().parse_args([*small, "--backbone", "convnextv2_atto"])
    fit = build_fit(args, depth_settings(args))
    weight = fit.depth.encoder.encoder.state_dict()["stages_0.blocks.0.conv_dw.weight"]
    assert torch.equal(weight, classifier.state_dict()["stages.0.blocks.0.conv_dw.weight"])
    other = build_parser().parse_args(small)
    with pytest.raises(UserError, match="tensors of the backbone are missing"):
        build_fit(other, depth_settings(other))


@pytest.mark.parametrize(
    ("extra", "message"),
    (
        (("--query_nums", "200"), "tokens, fewer than --query_nums"),
        (("--patch_size", "1"), "there are 500 positions"),
        (("--height", "60"), "multiple of 32"),
        (("--crop_bottom", "1"), "below 1"),
        (("--min_depth", "90"), "--max_depth"),
        (("--offsets", "0", "1"), "--offsets"),
        (("--focal", "-1"), "--focal"),
        (("--pose_scale", "0"), "--pose_scale"),
        (("--backbone", "no_such_model"), "--backbone no_such_model"),
        (("--pose_backbone", "no_such_model"), "--pose_backbone no_such_model"),
        (("--encoder_checkpoint", "missing.pth"), "missing.pth"),
        (("--offsets", "50"), "no frame has a neighbour"),
    ),
)
def test_main__bad_input(streets: Path, tmp_path: Path, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _train(streets, tmp_path, "--steps", "1", *extra)
    assert not list(tmp_path.glob("*.pth"))
