"""CAUSE inference: files, resume, other heads, the CRF."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.files import write_json
from cups.io.png import read_ids
from cups.io.provenance import read_provenance
from pseudo_labels import generate_overclustered_semantics as overcluster
from pseudo_labels import generate_semantic_pseudolabels_cause as semantics
from pseudo_labels import train_cause
from pseudo_labels.generators.cause_semantics import labels_of
from pseudo_labels.steps.label_kind import LabelKind, label_kind
from tests.pseudo_labels.textures import SMALL, first, flags


def test_generate_semantics__files(textures: Path) -> None:
    codes = np.load(first(textures, "codes_cause_tr", ".npy"))
    assert codes.shape == (12, 24, 12) and codes.dtype == np.float16 and np.isfinite(codes).all()
    labels = read_ids(first(textures, "pseudo_semantic_cause27"))
    assert labels.shape == (48, 96) and labels.dtype == np.uint8 and labels.max() < 27


def test_generate_semantics__provenance_says_what_the_labels_are(textures: Path, tmp_path: Path) -> None:
    assert label_kind(textures / "pseudo_semantic_cause27") == LabelKind("clusters", 27)
    assert "labels" not in (read_provenance(textures / "codes_cause_tr") or {})
    heads = ("--checkpoint_dir", tmp_path / "heads", "--output_root", tmp_path, "--max_images", 1)
    train_cause.main(flags(textures, "--backbone", "texton", *SMALL, *heads, "--num_classes", 5))
    semantics.main(flags(textures, *heads))
    assert label_kind(tmp_path / "pseudo_semantic_cause27") == LabelKind("clusters", 5)
    assert read_ids(first(tmp_path, "pseudo_semantic_cause27")).max() < 5


def test_main__has_no_seed(textures: Path) -> None:
    """Inference draws nothing."""
    with pytest.raises(SystemExit):
        semantics.main(flags(textures, "--seed", 1))


def test_generate_semantics__heads_written_again_are_the_same(textures: Path) -> None:
    train_cause.main(flags(textures, "--backbone", "texton", *SMALL))
    assert semantics.main(flags(textures, "--backbone", "texton")) == 0


def test_generate_semantics__other_heads_are_noticed(textures: Path, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", heads)
    where = ("--checkpoint_dir", heads, "--output_root", tmp_path)
    semantics.main(flags(textures, *where))
    cluster = torch.load(heads / "cluster_tr.pth", weights_only=True)
    torch.save({**cluster, "cluster_probe": -cluster["cluster_probe"]}, heads / "cluster_tr.pth")
    with pytest.raises(UserError, match=r"other weights \(cluster_tr\.pth"):
        semantics.main(flags(textures, *where))


@pytest.mark.parametrize("script", [semantics, overcluster], ids=["semantics", "overclusters"])
def test_generate__missing_crf_is_no_bad_image(
    textures: Path, tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        script.main(flags(textures, "--output_root", tmp_path, "--crf", "--skip_bad"))
    assert not list(tmp_path.iterdir())


def test_labels_of__crf_ends_at_the_edge_of_colour() -> None:
    """Cells of 8 pixels put the border at column 40, the image changes colour at 43."""
    pytest.importorskip("pydensecrf")
    image = np.where(np.arange(96)[None, :, None] < 43, (200, 60, 40), (70, 110, 160)).repeat(48, axis=0)
    similarities = torch.stack((torch.arange(12) < 5, torch.arange(12) >= 5), dim=1).float().expand(6, -1, -1)
    borders = [(labels_of(similarities, image.astype(np.uint8), crf) == 0).sum(axis=1) for crf in (None, 320)]
    assert borders[0].tolist() == [40] * 48 and borders[1].tolist() == [43] * 48


def test_labels_of__more_clusters_than_a_byte_holds() -> None:
    """Cluster 299 once became 43: labels were always written in 8 bits."""
    similarities = torch.zeros(2, 2, 300)
    similarities[..., 299] = 1
    labels = labels_of(similarities, np.zeros((4, 4, 3), np.uint8), crf=None)
    assert labels.dtype == np.uint16 and (labels == 299).all()


def without(folder: Path, setting: str) -> None:
    """Make the provenance one of the version before this setting."""
    content = read_provenance(folder) or {}
    del content["arguments"][setting]
    write_json(folder / "provenance.json", content)


def test_generate_semantics__codes_of_mirrored_images_are_not_mixed(textures: Path, tmp_path: Path) -> None:
    """Windows on 96 columns are even every 16 pixels, and the files may stay; every 24 they are not."""
    heads = ("--backbone", "texton", "--checkpoint_dir", textures / "cause_texton")
    for stride, even in ((16, True), (24, False)):
        where = ("--output_root", tmp_path / str(stride), "--stride", stride)
        semantics.main(flags(textures, *heads, *where))
        without(tmp_path / str(stride) / "codes_cause_tr", "flip")
        if even:
            assert semantics.main(flags(textures, *heads, *where)) == 0
            continue
        with pytest.raises(UserError, match="made with windows of the mirrored image; add `overwrite`"):
            semantics.main(flags(textures, *heads, *where))
        assert semantics.main(flags(textures, *heads, *where, "--overwrite")) == 0


@pytest.mark.parametrize("script", [semantics, overcluster], ids=["semantics", "overclusters"])
def test_generate__labels_of_a_larger_crf_are_not_mixed(
    textures: Path, tmp_path: Path, script: ModuleType
) -> None:
    pytest.importorskip("pydensecrf")
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    way = ("--k", 4, "--raw") if script is overcluster else ("--stride", 16)
    command = flags(textures, "--backbone", "texton", "--checkpoint_dir", textures / "cause_texton", *way)
    command += ["--output_root", str(tmp_path), "--crf"]
    if script is semantics:
        shutil.rmtree(tmp_path / "codes_cause_tr")
    folder = tmp_path / ("pseudo_semantic_raw_k4" if script is overcluster else "pseudo_semantic_cause27")
    assert script.main(command) == 0
    without(folder, "crf_height")
    assert script.main(command) == 0  # images of 48 rows: nothing changed
    without(folder, "crf_height")
    with pytest.raises(UserError, match="made with a CRF at the size of the images; add `overwrite`"):
        script.main([*command, "--crf_height", "32"])
