"""Overclusters of codes and of features: they find the textures, are named, and say what they hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones import DinoV3
from cups.errors import UserError
from cups.io.files import read_json, write_json, write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.taxonomy import class27_to_train_id
from pseudo_labels import generate_overclustered_semantics as overcluster
from pseudo_labels import generate_semantic_pseudolabels_cause as cause
from pseudo_labels import train_cause
from pseudo_labels.algorithms.overclustering import ClusterMap
from pseudo_labels.generators.overclusters import LabelClusters
from pseudo_labels.inputs.cluster_names import clusters_in, names_of
from pseudo_labels.networks.vectors import StoredCodes
from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.steps import step as steps
from pseudo_labels.steps.frames import Folder, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind
from pseudo_labels.steps.workers import run_batched, run_serial
from tests.pseudo_labels.textures import first, flags, scene


@pytest.mark.parametrize("features", ["codes", "backbone", "context"])
def test_overcluster__finds_the_textures(textures: Path, tmp_path: Path, features: str) -> None:
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    more = ("--features", features, "--backbone", "texton", "--checkpoint_dir", textures / "cause_texton")
    overcluster.main(flags(textures, "--k", 8, "--raw", "--output_root", tmp_path, *more))
    labels = read_ids(first(tmp_path, "pseudo_semantic_raw_k8"))
    truth = scene(0)[1]
    confusion = np.zeros((8, 3), dtype=int)
    np.add.at(confusion, (labels, truth), 1)
    assert confusion.max(axis=1).sum() / labels.size > 0.85
    assert (read_provenance(tmp_path / "pseudo_semantic_raw_k8") or {})["uses_ground_truth"] is False


def test_overcluster__regions_end_at_the_edge_of_colour(textures: Path, tmp_path: Path) -> None:
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


def test_overcluster__oracle_is_recorded_and_right(textures: Path, tmp_path: Path) -> None:
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        shutil.copytree(textures / name, tmp_path / name)
    args = flags(textures, "--k", 8, "--output_root", tmp_path)
    overcluster.main([*args, "--mapping", "oracle"])
    folder = tmp_path / "pseudo_semantic_mapped_k8"
    labels = read_ids(first(tmp_path, folder.name))
    train_ids = np.array([0, 2, 8])[scene(0)[1]]
    assert (labels == train_ids).mean() > 0.85
    assert (read_provenance(folder) or {})["uses_ground_truth"] is True
    # The names are kept: they name the same clusters again, and say where they are from.
    names = folder / "names_oracle.json"
    with pytest.raises(UserError, match="`mapping` oracle"):
        overcluster.main([*args, "--names", str(names)])
    before = first(tmp_path, folder.name).read_bytes()
    overcluster.main([*args, "--names", str(names), "--overwrite"])
    assert first(tmp_path, folder.name).read_bytes() == before
    assert (read_provenance(folder) or {})["uses_ground_truth"] is True


def test_overcluster__merging(textures: Path, tmp_path: Path) -> None:
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    overcluster.main(flags(textures, "--k", 8, "--output_root", tmp_path, "--merge_to", "3"))
    assert read_ids(first(tmp_path, "pseudo_semantic_raw_k8_merged3")).max() < 3


def test_overcluster__bad_input(textures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codes_cause_tr: no such folder"):
        overcluster.main(flags(textures, "--output_root", tmp_path, "--raw"))
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    with pytest.raises(UserError, match="`k` 5000: larger than the"):
        overcluster.main(flags(textures, "--output_root", tmp_path, "--raw", "--k", 5000, "--epochs", 1))
    write_npy(first(tmp_path, "codes_cause_tr", ".npy"), np.zeros((3, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"aaa_000000_000000\.npy: array of shape \(3, 4\)"):
        overcluster.main(flags(textures, "--output_root", tmp_path, "--raw", "--k", 4))


@pytest.mark.parametrize("way", [("codes",), ("codes", "--crf"), ("context", "--regions")])
def test_overcluster__worker_processes_write_the_same_files(
    textures: Path, tmp_path: Path, way: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--crf" in way:
        pytest.importorskip("pydensecrf")
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    asked: list[int] = []

    def run_pool(todo: object, process: object, workers: int) -> object:
        asked.append(workers)
        return run_pool_of_processes(todo, process, workers)  # type: ignore[arg-type]

    run_pool_of_processes = steps.run_pool
    monkeypatch.setattr(steps, "run_pool", run_pool)
    heads = ("--backbone", "texton", "--checkpoint_dir", textures / "cause_texton")
    args = flags(textures, "--k", 6, "--raw", *heads, "--output_root", tmp_path, "--features", *way)
    written = []
    for workers in (0, 2):
        overcluster.main([*args, "--num_workers", str(workers), "--overwrite"])
        folder = tmp_path / "pseudo_semantic_raw_k6"
        written.append({path.name: path.read_bytes() for path in folder.rglob("*.png")})
    assert written[0] == written[1] and len(written[0]) == 4
    assert asked == [2]


def test_label_clusters__threads_write_the_same_files(textures: Path, tmp_path: Path) -> None:
    frames = FrameSource(cityscapes_root=textures).frames()
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(5, 12)).astype(np.float32)
    clusters = ClusterMap(StoredCodes(Folder(textures, "codes_cause_tr", ".npy")), centroids)
    table, labels = np.arange(5, dtype=np.uint8), LabelKind("clusters", 5)
    one, many = (
        LabelClusters(clusters, table, Folder(tmp_path, name, ".png"), labels) for name in ("one", "many")
    )
    assert all(error is None for _, error in run_serial(frames, one))
    assert all(error is None for _, error in run_batched(frames, many.in_threads(), 2))
    for frame in frames:
        assert one.output.path(frame).read_bytes() == many.output.path(frame).read_bytes()


def test_overcluster__provenance_says_what_the_labels_are(textures: Path, tmp_path: Path) -> None:
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        shutil.copytree(textures / name, tmp_path / name)
    args = flags(textures, "--k", 8, "--output_root", tmp_path, "--max_images", 2)
    expected = {
        "pseudo_semantic_mapped_k8": (("--mapping", "oracle"), LabelKind("trainId", 19)),
        "pseudo_semantic_raw_k8": ((), LabelKind("clusters", 8)),
        "pseudo_semantic_raw_k8_merged3": (("--merge_to", "3"), LabelKind("clusters", 3)),
    }
    for folder, (way, kind) in expected.items():
        overcluster.main([*args, *way])
        assert (read_provenance(tmp_path / folder) or {})["labels"] == kind.content()
        assert label_kind(tmp_path / folder) == kind


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "`k` 0: must be in 1"),
        ({"k": 65535}, "`k` 65535: must be in 1"),
        ({"raw": True, "merge_to": 3}, "`raw`: give either it or `merge_to`"),
        ({"raw": True, "mapping": "oracle"}, "`raw`: give either it or `mapping`"),
        ({"merge_to": 3, "names": Path("x")}, "`merge_to`: give either it or `names`"),
        ({"regions": True, "crf": True}, "`regions`: give either it or `crf`"),
        ({"features": "pixels"}, "`features` pixels: unknown"),
        ({"mapping": "guess"}, "`mapping` guess: unknown"),
    ],
)
def test_settings__impossible_values(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OverclusterSettings(**wrong)  # type: ignore[arg-type]


def test_overcluster__features_of_a_network_with_attention(textures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(DinoV3("vits16", None).network.state_dict(), tmp_path / "vits16.pth")
    model = ("--backbone", "dinov3_vits16", "--backbone_checkpoint", tmp_path / "vits16.pth")
    heads = ("--checkpoint_dir", tmp_path / "heads", "--output_root", tmp_path)
    steps = ("--codebook_steps", 1, "--head_steps", 1, "--probe_steps", 1, "--batch_size", 1)
    sizes = ("--codebook_size", 4, "--reduced_dim", 4, "--projection_dim", 4, "--hidden_dim", 4)
    tiles = ("--height", 48, "--window", 48, "--stride", 24)
    train_cause.main(flags(textures, *model, *heads, *steps, *sizes, *tiles))
    with pytest.raises(UserError, match="`features` backbone: only for the texton backbone"):
        overcluster.main(flags(textures, *model, *heads, "--features", "backbone"))


def test_overcluster__rows_of_a_probe_name_nothing(textures: Path, tmp_path: Path) -> None:
    """Row i of a probe is not class i: with a perfect clustering, names by rows gave PQ 20 for 74."""
    for name in ("codes_cause_tr", "pseudo_semantic_cause27"):
        shutil.copytree(textures / name, tmp_path / name)
    shutil.copytree(textures / "cause_texton", tmp_path / "heads")
    heads = ("--backbone", "texton", "--checkpoint_dir", tmp_path / "heads", "--output_root", tmp_path)
    args = flags(textures, "--k", 8, "--mapping", "cause", *heads)
    with pytest.raises(UserError, match="do not say which row of their probe is which class"):
        overcluster.main(args)
    order = list(np.random.default_rng(0).permutation(27))
    settings = read_json(tmp_path / "heads" / "settings.json", "")
    write_json(tmp_path / "heads" / "settings.json", {**settings, "class_order": [int(c) for c in order]})
    with pytest.raises(UserError, match="made before its heads had an order"):
        overcluster.main(args)
    rows = read_ids(first(tmp_path, "pseudo_semantic_cause27"))
    cause.main(flags(textures, *heads, "--overwrite"))
    classes = read_ids(first(tmp_path, "pseudo_semantic_cause27"))
    assert (classes == np.array(order)[rows]).mean() > 0.99
    assert label_kind(tmp_path / "pseudo_semantic_cause27") == LabelKind("cause27", 27)
    overcluster.main(args)
    written = read_ids(first(tmp_path, "pseudo_semantic_mapped_k8"))
    assert set(np.unique(written)) <= {*range(19), 255}
    assert (written == class27_to_train_id()[classes]).mean() > 0.5


def test_overcluster__names_are_given_to_the_clusters_without_names(textures: Path, tmp_path: Path) -> None:
    """The centroids of the named run are those of the raw run, which an evaluation has named."""
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    args = flags(textures, "--k", 8, "--output_root", tmp_path)
    overcluster.main(args)
    raw = tmp_path / "pseudo_semantic_raw_k8"
    table = np.array([0, 2, 8, 0, 2, 8, 255, 1], np.uint8)
    names = tmp_path / "names.json"
    names_of(table, clusters_in(raw, 8), "test").write(names)
    overcluster.main([*args, "--names", str(names)])
    mapped = tmp_path / "pseudo_semantic_mapped_k8"
    assert (read_ids(first(tmp_path, mapped.name)) == table[read_ids(first(tmp_path, raw.name))]).all()
    provenance = read_provenance(mapped) or {}
    assert provenance["uses_ground_truth"] is True and provenance["labels"]["kind"] == "trainId"
    names_of(table[::-1], clusters_in(raw, 8), "test").write(names)
    with pytest.raises(UserError, match=r"names\.json has changed"):
        overcluster.main([*args, "--names", str(names)])
    names_of(table, "0" * 64, "test").write(names)
    with pytest.raises(UserError, match="names of other clusters"):
        overcluster.main([*args, "--names", str(names)])
    names_of(table[:5], None, "test").write(names)
    with pytest.raises(UserError, match="names of 5 clusters, but `k` is 8"):
        overcluster.main([*args, "--names", str(names)])


def test_overcluster__a_folder_of_an_older_version_resumes(textures: Path, tmp_path: Path) -> None:
    """Its provenance holds `raw` and a `mapping` that said nothing."""
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    args = flags(textures, "--k", 8, "--output_root", tmp_path)
    overcluster.main(args)
    path = tmp_path / "pseudo_semantic_raw_k8" / "provenance.json"
    content = read_json(path, "")
    content["arguments"].update(raw=True, mapping="cause")
    write_json(path, content)
    before = first(tmp_path, "pseudo_semantic_raw_k8").stat().st_mtime_ns
    overcluster.main(args)
    assert first(tmp_path, "pseudo_semantic_raw_k8").stat().st_mtime_ns == before
