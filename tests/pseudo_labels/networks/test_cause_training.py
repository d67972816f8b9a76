"""Training of the CAUSE heads, tiny but for real, and without labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones import DinoV3
from cups.errors import UserError
from cups.io.png import read_ids
from cups.io.provenance import read_provenance
from pseudo_labels import generate_semantic_pseudolabels_cause as semantics
from pseudo_labels import train_cause
from pseudo_labels.networks.cause_training import Trainer
from tests.pseudo_labels.textures import SMALL, first, flags


def test_train_cause__writes_the_published_layout(textures: Path) -> None:
    folder = textures / "cause_texton"
    heads = torch.load(folder / "segment_tr.pth", weights_only=True)
    assert heads["head.query_pos"].shape == (64, 39)
    clusters = torch.load(folder / "cluster_tr.pth", weights_only=True)
    np.testing.assert_array_equal(np.load(folder / "modular.npy"), clusters["codebook"])
    assert (read_provenance(folder) or {})["uses_ground_truth"] is False


def test_train_cause__resumes_to_the_same_weights(textures: Path, tmp_path: Path) -> None:
    """A run killed after phase 1 and continued equals one that ran through."""
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    expected = torch.load(folder / "segment_tr.pth", weights_only=True)
    for name in ("after_head.pth", "after_probe.pth", "segment_tr.pth", "cluster_tr.pth", "provenance.json"):
        (folder / name).unlink()
    train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder))
    again = torch.load(folder / "segment_tr.pth", weights_only=True)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_train_cause__other_settings_are_refused(textures: Path) -> None:
    with pytest.raises(UserError, match="`seed` 0"):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--seed", 5))


def test_cause__on_dinov3_with_its_own_token_count(textures: Path, tmp_path: Path) -> None:
    """Windows of 48 pixels are 3 x 3 tokens of 16; the heads take these, training and inference agree."""
    torch.manual_seed(0)
    torch.save(DinoV3("vits16", None).network.state_dict(), tmp_path / "vits16.pth")
    common = [
        "--cityscapes_root",
        textures,
        "--output_root",
        tmp_path,
        "--checkpoint_dir",
        tmp_path / "heads",
    ]
    common += ["--backbone", "dinov3_vits16", "--backbone_checkpoint", tmp_path / "vits16.pth"]
    flags = [str(flag) for flag in common]
    steps = ["--codebook_steps", "2", "--head_steps", "2", "--probe_steps", "2", "--batch_size", "2"]
    sizes = ["--codebook_size", "8", "--reduced_dim", "6", "--projection_dim", "8", "--hidden_dim", "8"]
    train_cause.main([*flags, *steps, *sizes, "--height", "48", "--window", "48", "--stride", "24"])
    heads = torch.load(tmp_path / "heads" / "segment_tr.pth", weights_only=True)
    assert heads["head.query_pos"].shape == (9, 384)
    semantics.main([*flags, "--max_images", "2", "--batch_size", "2"])
    codes = np.load(first(tmp_path, "codes_cause_tr", ".npy"))
    assert codes.shape == (3, 6, 6) and np.isfinite(codes).all()
    assert read_ids(first(tmp_path, "pseudo_semantic_cause27")).shape == (48, 96)


@pytest.mark.parametrize("flag", [("--skip_bad",), ("--show", "3"), ("--num_shards", "2")])
def test_main__flags_that_it_would_not_read(textures: Path, flag: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, *flag))


def test_train_cause__published_heads_are_not_overwritten(textures: Path, tmp_path: Path) -> None:
    (tmp_path / "segment_tr.pth").write_bytes(b"published")
    with pytest.raises(UserError, match="heads not trained here; give another `checkpoint_dir`"):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", tmp_path))
    assert (tmp_path / "segment_tr.pth").read_bytes() == b"published"


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("num_classes", -1), ("hidden_dim", 0)])
def test_main__impossible_sizes(textures: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"`{name}` {value}: must be at least 1"):
        train_cause.main(flags(textures, "--backbone", "texton", f"--{name}", value))


def test_train_cause__heads_of_a_trial_are_not_taken_for_all(textures: Path, tmp_path: Path) -> None:
    more = ("--backbone", "texton", *SMALL, "--checkpoint_dir", tmp_path / "heads")
    train_cause.main(flags(textures, *more, "--max_images", 1))
    with pytest.raises(UserError, match="was trained on 1 image, this run has 4; add `overwrite`"):
        train_cause.main(flags(textures, *more))


def test_train_cause__a_killed_overwrite_leaves_no_phase_of_the_old_run(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    more = flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder, "--overwrite")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", die)
    with pytest.raises(KeyboardInterrupt):
        train_cause.main(more)
    assert not list(folder.glob("*.pth"))
