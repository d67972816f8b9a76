"""Images -> CAUSE heads -> codes and clusters -> overclusters, tiny but for real, and without labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones import DinoV3
from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from pseudo_labels import generate_overclustered_semantics as overcluster
from pseudo_labels import generate_semantic_pseudolabels_cause as semantics
from pseudo_labels import train_cause
from pseudo_labels.networks.cause_heads import (
    PUBLISHED_TILING,
    Tiling,
    _mirror_order,
    _sampling,
    _starts,
    default_tiling,
    load_cause,
)

SIZES = {"codebook_steps": 8, "head_steps": 8, "probe_steps": 8, "codebook_size": 16, "reduced_dim": 12}
SIZES |= {"projection_dim": 16, "hidden_dim": 16, "batch_size": 4, "window": 32, "stride": 16}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", str(value))]


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three textures of the same mean colour: smooth, upright and lying stripes. (48, 96)."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(96), np.arange(48))
    labels = np.where(x < 32, 0, np.where(x < 64, 1, 2))
    wave = np.where(labels == 1, np.sin(1.2 * x), np.where(labels == 2, np.sin(1.2 * y), 0))
    gray = 110 + 50 * wave + rng.normal(0, 3, wave.shape)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), labels


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with images, trained heads and codes."""
    root = tmp_path_factory.mktemp("textures")
    label_id = np.array([7, 11, 21], dtype=np.uint8)  # road, building, vegetation
    for index in range(4):
        image, labels = scene(index)
        stem = f"aaa_{index:06}_000000"
        write_png(root / "leftImg8bit" / "train" / "aaa" / f"{stem}_leftImg8bit.png", image)
        write_png(root / "gtFine" / "train" / "aaa" / f"{stem}_gtFine_labelIds.png", label_id[labels])
    common = ["--cityscapes_root", str(root), "--backbone", "texton"]
    train_cause.main([*common, *SMALL])
    semantics.main(common)
    return root


def flags(root: Path, *more: object) -> list[str]:
    return ["--cityscapes_root", str(root), *map(str, more)]


def first(root: Path, folder: str, suffix: str = ".png") -> Path:
    return root / folder / "train" / "aaa" / f"aaa_000000_000000{suffix}"


def test_train_cause__writes_the_published_layout(done: Path) -> None:
    folder = done / "cause_texton"
    heads = torch.load(folder / "segment_tr.pth", weights_only=True)
    assert heads["head.query_pos"].shape == (64, 39)
    clusters = torch.load(folder / "cluster_tr.pth", weights_only=True)
    np.testing.assert_array_equal(np.load(folder / "modular.npy"), clusters["codebook"])
    assert (read_provenance(folder) or {})["uses_ground_truth"] is False


def test_train_cause__resumes_to_the_same_weights(done: Path, tmp_path: Path) -> None:
    """A run killed after phase 1 and continued equals one that ran through."""
    folder = tmp_path / "heads"
    shutil.copytree(done / "cause_texton", folder)
    expected = torch.load(folder / "segment_tr.pth", weights_only=True)
    for name in ("after_head.pth", "after_probe.pth", "segment_tr.pth", "cluster_tr.pth", "provenance.json"):
        (folder / name).unlink()
    train_cause.main(flags(done, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder))
    again = torch.load(folder / "segment_tr.pth", weights_only=True)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_train_cause__other_settings_are_refused(done: Path) -> None:
    with pytest.raises(UserError, match="--seed 0"):
        train_cause.main(flags(done, "--backbone", "texton", *SMALL, "--seed", 5))


def test_generate_semantics__files(done: Path) -> None:
    codes = np.load(first(done, "codes_cause_tr", ".npy"))
    assert codes.shape == (12, 24, 12) and codes.dtype == np.float16 and np.isfinite(codes).all()
    labels = read_ids(first(done, "pseudo_semantic_cause27"))
    assert labels.shape == (48, 96) and labels.dtype == np.uint8 and labels.max() < 27


def test_generate_semantics__heads_written_again_are_the_same(done: Path) -> None:
    train_cause.main(flags(done, "--backbone", "texton", *SMALL))
    assert semantics.main(flags(done, "--backbone", "texton")) == 0


def test_generate_semantics__other_heads_are_noticed(done: Path, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    shutil.copytree(done / "cause_texton", heads)
    where = ("--checkpoint_dir", heads, "--output_root", tmp_path)
    semantics.main(flags(done, *where))
    cluster = torch.load(heads / "cluster_tr.pth", weights_only=True)
    torch.save({**cluster, "cluster_probe": -cluster["cluster_probe"]}, heads / "cluster_tr.pth")
    with pytest.raises(UserError, match=r"other weights \(cluster_tr\.pth"):
        semantics.main(flags(done, *where))


def test_generate_semantics__missing_heads(done: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; train heads"):
        semantics.main(flags(done, "--backbone", "texton", "--checkpoint_dir", tmp_path / "none"))
    with pytest.raises(UserError, match="heads of backbone texton"):
        args = ("--backbone", "dinov2_vitb14", "--checkpoint_dir", done / "cause_texton")
        semantics.main(flags(done, *args))


@pytest.mark.parametrize("features", ["codes", "backbone", "context"])
def test_overcluster__finds_the_textures(done: Path, tmp_path: Path, features: str) -> None:
    shutil.copytree(done / "codes_cause_tr", tmp_path / "codes_cause_tr")
    more = ("--features", features, "--backbone", "texton", "--checkpoint_dir", done / "cause_texton")
    overcluster.main(flags(done, "--k", 8, "--raw", "--output_root", tmp_path, *more))
    labels = read_ids(first(tmp_path, "pseudo_semantic_raw_k8"))
    truth = scene(0)[1]
    confusion = np.zeros((8, 3), dtype=int)
    np.add.at(confusion, (labels, truth), 1)
    assert confusion.max(axis=1).sum() / labels.size > 0.85
    assert (read_provenance(tmp_path / "pseudo_semantic_raw_k8") or {})["uses_ground_truth"] is False


def test_overcluster__regions_end_at_the_edge_of_colour(done: Path, tmp_path: Path) -> None:
    """A disc on a plain ground, tokens of 8 pixels: with --regions no pixel of the border is wrong."""
    rows, columns = np.mgrid[:48, :96]
    disc = (rows - 24) ** 2 + (columns - 41) ** 2 < 15**2
    image = np.where(disc[..., None], (200, 60, 40), (70, 110, 160)).astype(np.uint8)
    write_png(tmp_path / "leftImg8bit" / "train" / "aaa" / "aaa_000000_000000_leftImg8bit.png", image)
    codes = np.where(disc[4::8, 4::8, None], (1.0, 0.0), (0.0, 1.0)).astype(np.float16)
    write_npy(first(tmp_path, "codes_cause_tr", ".npy"), codes)
    overcluster.main(flags(tmp_path, "--k", 2, "--raw", "--regions"))
    labels = read_ids(first(tmp_path, "pseudo_semantic_raw_k2"))
    assert (labels == labels[24, 41]).tolist() == disc.tolist()


def test_overcluster__oracle_is_recorded_and_right(done: Path, tmp_path: Path) -> None:
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        shutil.copytree(done / name, tmp_path / name)
    args = flags(done, "--k", 8, "--output_root", tmp_path)
    overcluster.main([*args, "--mapping", "oracle"])
    folder = tmp_path / "pseudo_semantic_mapped_k8"
    labels = read_ids(first(tmp_path, folder.name))
    train_ids = np.array([0, 2, 8])[scene(0)[1]]
    assert (labels == train_ids).mean() > 0.85
    assert (read_provenance(folder) or {})["uses_ground_truth"] is True
    with pytest.raises(UserError, match="--mapping oracle"):
        overcluster.main([*args, "--mapping", "cause"])


def test_overcluster__cause_mapping_and_merging(done: Path, tmp_path: Path) -> None:
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        shutil.copytree(done / name, tmp_path / name)
    args = flags(done, "--k", 8, "--output_root", tmp_path)
    overcluster.main(args)
    assert set(np.unique(read_ids(first(tmp_path, "pseudo_semantic_mapped_k8")))) <= {*range(19), 255}
    overcluster.main([*args, "--merge_to", "3"])
    assert read_ids(first(tmp_path, "pseudo_semantic_raw_k8_merged3")).max() < 3


def test_overcluster__bad_input(done: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codes_cause_tr: no such folder"):
        overcluster.main(flags(done, "--output_root", tmp_path, "--raw"))
    shutil.copytree(done / "codes_cause_tr", tmp_path / "codes_cause_tr")
    with pytest.raises(UserError, match="`k` 5000: larger than the"):
        overcluster.main(flags(done, "--output_root", tmp_path, "--raw", "--k", 5000, "--epochs", 1))
    write_npy(first(tmp_path, "codes_cause_tr", ".npy"), np.zeros((3, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"aaa_000000_000000\.npy: array of shape \(3, 4\)"):
        overcluster.main(flags(done, "--output_root", tmp_path, "--raw", "--k", 4))


def test_default_tiling__whole_patches() -> None:
    assert default_tiling("dinov2_vitb14", 14) == PUBLISHED_TILING
    assert default_tiling("dinov3_vitb16", 16) == Tiling(height=640, window=320, stride=160)


def test_cause__on_dinov3_with_its_own_token_count(done: Path, tmp_path: Path) -> None:
    """Windows of 48 pixels are 3 x 3 tokens of 16; the heads take these, training and inference agree."""
    torch.manual_seed(0)
    torch.save(DinoV3("vits16", None).network.state_dict(), tmp_path / "vits16.pth")
    common = ["--cityscapes_root", done, "--output_root", tmp_path, "--checkpoint_dir", tmp_path / "heads"]
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


def test_codes__windows_and_batches_make_no_difference(done: Path) -> None:
    """One window over the whole image, alone or with its neighbours in a batch, gives the same codes."""
    args = semantics.parse_arguments(flags(done, "--backbone", "texton"))
    one, many = (load_cause(args, torch.device("cpu"), batch=batch) for batch in (1, 16))
    image = one.extractor.image(done / "leftImg8bit" / "train" / "aaa" / "aaa_000000_000000_leftImg8bit.png")
    torch.testing.assert_close(one.codes(image), many.codes(image))


def test_labels_of__crf_ends_at_the_edge_of_colour() -> None:
    """Cells of 8 pixels put the border at column 40, the image changes colour at 43."""
    image = np.where(np.arange(96)[None, :, None] < 43, (200, 60, 40), (70, 110, 160)).repeat(48, axis=0)
    similarities = torch.stack((torch.arange(12) < 5, torch.arange(12) >= 5), dim=1).float().expand(6, -1, -1)
    borders = [
        (semantics.labels_of(similarities, image.astype(np.uint8), crf) == 0).sum(axis=1)
        for crf in (False, True)
    ]
    assert borders[0].tolist() == [40] * 48 and borders[1].tolist() == [43] * 48


def test_starts__cover_the_side() -> None:
    assert _starts(644, 322, 161) == [0, 161, 322]
    assert _starts(100, 32, 32) == [0, 32, 64, 68]
    assert _starts(32, 32, 16) == [0]


def test_sampling__half_token_offset_takes_the_mean_of_two() -> None:
    weights = _sampling(0.5, side=2, length=3)
    # tokens of the image at -0.5, 0.5 and 1.5 of the window: its border, the middle, its border
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    assert _sampling(1.0, 2, 4).tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_mirror_order__pairs_windows_of_the_same_pixels() -> None:
    assert _mirror_order([(0, 0), (0, 16), (0, 32)], width=64, window=32) == [2, 1, 0]
