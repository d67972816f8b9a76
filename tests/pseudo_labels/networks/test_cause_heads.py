"""Heads on disk: what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels import generate_semantic_pseudolabels_cause as semantics
from pseudo_labels.networks.cause_heads import PUBLISHED_FOLDER, heads_folder, load_cause, own_heads
from pseudo_labels.settings.cause import HeadsChoice
from tests.pseudo_labels.textures import flags


def test_generate_semantics__missing_heads(textures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; train heads"):
        semantics.main(flags(textures, "--backbone", "texton", "--checkpoint_dir", tmp_path / "none"))
    with pytest.raises(UserError, match="heads of backbone texton"):
        args = ("--backbone", "dinov2_vitb14", "--checkpoint_dir", textures / "cause_texton")
        semantics.main(flags(textures, *args))


def test_load_cause__windows_that_are_no_whole_patches(textures: Path) -> None:
    with pytest.raises(UserError, match="`window` 30: must be a multiple of the patch size 4"):
        load_cause(HeadsChoice(device="cpu", window=30), textures / "cause_texton")


def test_heads_folder__named_or_of_the_backbone(tmp_path: Path) -> None:
    named = HeadsChoice(backbone="texton", checkpoint_dir=tmp_path / "mine")
    assert heads_folder(named, tmp_path) == tmp_path / "mine"
    assert heads_folder(HeadsChoice(backbone="texton"), tmp_path) == tmp_path / "cause_texton"
    assert heads_folder(HeadsChoice(), tmp_path) == PUBLISHED_FOLDER


def test_heads_folder__trained_here_before_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training writes below the output root, never into the source tree; the log says what is read."""
    choice = HeadsChoice(backbone="dinov3_vitb16")
    assert own_heads(HeadsChoice(), tmp_path) == tmp_path / "cause_dinov2_vitb14"
    assert own_heads(choice, tmp_path) == tmp_path / "cause_dinov3_vitb16"
    assert heads_folder(choice, tmp_path) == PUBLISHED_FOLDER
    (tmp_path / "cause_dinov3_vitb16").mkdir()
    with caplog.at_level("INFO"):
        assert heads_folder(choice, tmp_path) == tmp_path / "cause_dinov3_vitb16"
    assert "CAUSE heads: " + str(tmp_path / "cause_dinov3_vitb16") in caplog.text
