"""Overclusters of codes and of features: they find the textures, are named, and say what they hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.backbones import DinoV3
from cups.errors import UserError
from cups.io.files import file_sha256, read_json, read_npz, write_json, write_npy
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.taxonomy import class27_to_train_id
from pseudo_labels import generate_overclustered_semantics as overcluster
from pseudo_labels import generate_semantic_pseudolabels_cause as cause
from pseudo_labels.algorithms.overclustering import ClusterMap, cause_table, sample_vectors
from pseudo_labels.generators.overclusters import LabelClusters
from pseudo_labels.inputs.cluster_names import clusters_in, names_of
from pseudo_labels.networks.cause_heads import load_extractor
from pseudo_labels.networks.vectors import InContext, Pooled, StoredVectors, WholeImage
from pseudo_labels.scoring.oracle_mapping import oracle_table
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
    # Clusters of version 0.2, whose regions were others, are not gone on with.
    path = tmp_path / "pseudo_semantic_raw_k2" / "centroids.npz"
    with np.load(path, allow_pickle=False) as stored:
        np.savez(path, **{**stored, "regions": True})
    with pytest.raises(UserError, match=r"made with .*'regions': True.*, not .*'regions': 'felzenszwalb'"):
        overcluster.main(flags(tmp_path, "--k", 2, "--raw", "--regions"))


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
    written, fitted = [], []
    for workers in (0, 2):
        overcluster.main([*args, "--num_workers", str(workers), "--overwrite"])
        folder = tmp_path / "pseudo_semantic_raw_k6"
        written.append({path.name: path.read_bytes() for path in folder.rglob("*.png")})
        fitted.append(
            {path.name: read_npz(path, ["centroids"])["centroids"] for path in folder.glob("*.npz")}
        )
    assert written[0] == written[1] and len(written[0]) == 4
    assert fitted[0].keys() == fitted[1].keys() and "centroids.npz" in fitted[0]
    assert all((fitted[0][name] == fitted[1][name]).all() for name in fitted[0])
    assert asked == [2]


@pytest.mark.parametrize("kind", ["codes", "image", "context", "pooled"])
def test_sample_vectors__as_reading_one_frame_after_the_other(textures: Path, kind: str) -> None:
    """The cells are drawn before a frame is read; which ones is the same as after it."""
    frames = FrameSource(cityscapes_root=textures).frames()
    read: Any = StoredVectors(Folder(textures, "codes_cause_tr", ".npy"))
    if kind in ("image", "context", "pooled"):
        settings = OverclusterSettings(backbone="texton", checkpoint_dir=textures / "cause_texton")
        read = WholeImage(load_extractor(settings, textures / "cause_texton"))
    if kind == "context":
        read = InContext(read, np.eye(3, read(frames[0]).shape[-1], dtype=np.float32))
    if kind == "pooled":
        read = Pooled(read)
    generator = np.random.default_rng(3)
    expected = []
    for frame in frames:
        vectors = read(frame).reshape(-1, read(frame).shape[-1])
        chosen = generator.choice(len(vectors), size=min(20, len(vectors)), replace=False)
        expected.append(vectors[chosen].astype(np.float16))
    found = sample_vectors(frames, read, 20, 3, "vectors")
    assert len(found) == len(expected) == 4
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_tables__of_names_are_the_same_from_processes(textures: Path) -> None:
    frames = FrameSource(cityscapes_root=textures).frames()
    read = StoredVectors(Folder(textures, "codes_cause_tr", ".npy"))
    centroids = np.random.default_rng(0).normal(size=(5, read(frames[0]).shape[-1])).astype(np.float32)
    labels = Folder(textures, "pseudo_semantic_cause27", ".png")
    one, many = (cause_table(frames, read, centroids, labels, workers) for workers in (0, 2))
    assert one.tolist() == many.tolist()
    clusters = ClusterMap(read, centroids)
    one, many = (oracle_table(frames, clusters, 5, textures, workers) for workers in (0, 2))
    assert one.tolist() == many.tolist() and set(one.tolist()) != {255}


def test_label_clusters__threads_write_the_same_files(textures: Path, tmp_path: Path) -> None:
    frames = FrameSource(cityscapes_root=textures).frames()
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(5, 12)).astype(np.float32)
    clusters = ClusterMap(StoredVectors(Folder(textures, "codes_cause_tr", ".npy")), centroids)
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
        ({"k": 0}, "`k` 0: must be at least 1"),
        ({"k": 65535}, "`k` 65535: must be at most 65534"),
        ({"raw": True, "merge_to": 3}, "`raw`: give either it or `merge_to`"),
        ({"raw": True, "mapping": "oracle"}, "`raw`: give either it or `mapping`"),
        ({"merge_to": 3, "names": Path("x")}, "`merge_to`: give either it or `names`"),
        ({"regions": True, "crf": True}, "`regions`: give either it or `crf`"),
        ({"mapping": "guess"}, "`mapping` guess: unknown"),
    ],
)
def test_settings__impossible_values(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OverclusterSettings(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def vits16(make_folder: Callable[[str], Path]) -> tuple[object, ...]:
    """Flags of a network with attention and random weights, on small images."""
    torch.manual_seed(0)
    path = make_folder("weights") / "vits16.pth"
    torch.save(DinoV3("vits16", None).network.state_dict(), path)
    return ("--backbone", "dinov3_vits16", "--backbone_checkpoint", path, "--height", 48, "--window", 48)


@pytest.mark.parametrize("features", ["backbone", "context"])
def test_overcluster__features_of_a_network_with_attention(
    textures: Path, tmp_path: Path, vits16: tuple[object, ...], features: str
) -> None:
    """They are those of the whole image, computed here, and need no heads."""
    overcluster.main(
        flags(textures, *vits16, "--output_root", tmp_path, "--k", 4, "--raw", "--features", features)
    )
    assert read_ids(first(tmp_path, "pseudo_semantic_raw_k4")).shape == (48, 96)
    weights = (read_provenance(tmp_path / "pseudo_semantic_raw_k4") or {})["weights"]
    assert [(entry["name"], [*entry["sha256"]]) for entry in weights] == [("dinov3_vits16", ["vits16.pth"])]
    assert np.load(tmp_path / "pseudo_semantic_raw_k4" / "centroids.npz")["centroids"].shape == (
        4,
        {"backbone": 384, "context": 384 + 64}[features],
    )


def write_halves(root: Path, folder: str) -> None:
    """Write features that tell the left half of each image from the right one."""
    for index in range(4):
        halves = np.where(np.arange(6)[None, :, None] < 3, (3.0, 0.0, 0.1), (0.0, 9.0, 0.1)).repeat(3, axis=0)
        name = f"aaa_{index:06}_000000.npy"
        write_npy(root / folder / "train" / "aaa" / name, halves.astype(np.float16))


@pytest.mark.parametrize(
    ("features", "folder"),
    [("backbone", "features_dinov2_vitb14"), ("my_features", "my_features")],
    ids=["of the backbone", "own"],
)
def test_overcluster__features_on_disk(textures: Path, tmp_path: Path, features: str, folder: str) -> None:
    """A feature folder is read, no network is needed, and provenance says what was read."""
    write_halves(tmp_path, folder)
    overcluster.main(flags(textures, "--output_root", tmp_path, "--k", 2, "--raw", "--features", features))
    labels = read_ids(first(tmp_path, "pseudo_semantic_raw_k2"))
    assert len(np.unique(labels[:, :48])) == 1 and (labels[:, 48:] == 1 - labels[0, 0]).all()
    content = read_provenance(tmp_path / "pseudo_semantic_raw_k2") or {}
    assert str(tmp_path / folder) in [entry["path"] for entry in content["inputs"]]
    assert content["weights"] == []


def test_overcluster__features_that_are_not_there(textures: Path, tmp_path: Path) -> None:
    command = flags(textures, "--output_root", tmp_path, "--raw", "--features", "pixels")
    with pytest.raises(
        UserError, match="pixels: no such folder; `features` is codes, backbone, context, or a"
    ):
        overcluster.main(command)


@pytest.fixture
def trial(textures: Path, tmp_path: Path) -> list[str]:
    """Clusters of the first image alone, and the flags of the run on all four."""
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    whole = flags(textures, "--k", 6, "--raw", "--output_root", tmp_path)
    overcluster.main([*whole, "--max_images", "1"])
    return whole


def test_overcluster__clusters_of_a_trial_are_not_taken_for_all(trial: list[str], tmp_path: Path) -> None:
    """K-means of one image labelled sixteen."""
    with pytest.raises(UserError, match="fitted on 1 image, without 3 of the 4 of this run"):
        overcluster.main(trial)
    overcluster.main([*trial, "--overwrite"])
    with np.load(tmp_path / "pseudo_semantic_raw_k6" / "centroids.npz", allow_pickle=False) as stored:
        assert len(stored["frames"]) == 4
    overcluster.main([*trial, "--max_images", "1"])  # those of all serve a part


def test_overcluster__a_trial_does_not_take_the_clusters_of_all_away(
    trial: list[str], tmp_path: Path
) -> None:
    overcluster.main([*trial, "--overwrite"])
    path = tmp_path / "pseudo_semantic_raw_k6" / "centroids.npz"
    before = path.read_bytes()
    with pytest.raises(UserError, match="3 files made with it are of images not in this run"):
        overcluster.main([*trial, "--max_images", "1", "--overwrite"])
    assert path.read_bytes() == before


def test_overcluster__codes_made_anew_are_noticed(trial: list[str], tmp_path: Path) -> None:
    """It said "0 done, 4 skipped"."""
    overcluster.main([*trial, "--overwrite"])
    codes = tmp_path / "codes_cause_tr"
    content = read_provenance(codes) or {}
    write_json(codes / "provenance.json", content | {"fingerprint": "of other codes"})
    with pytest.raises(
        UserError, match="fitted on other vectors, which were made anew since; add `overwrite`"
    ):
        overcluster.main(trial)
    overcluster.main([*trial, "--overwrite"])


def test_overcluster__loaded_centroids_give_their_clusters(textures: Path, tmp_path: Path) -> None:
    """The clustering of another machine: same labels, nothing fitted, the file's digest in the provenance."""
    for root in (tmp_path / "there", tmp_path / "here"):
        shutil.copytree(textures / "codes_cause_tr", root / "codes_cause_tr")
    name = "pseudo_semantic_raw_k8"
    overcluster.main(flags(textures, "--k", 8, "--raw", "--output_root", tmp_path / "there", "--seed", 3))
    with np.load(tmp_path / "there" / name / "centroids.npz") as stored:
        centroids = stored["centroids"]
    file = tmp_path / "kmeans_centroids.npz"
    order = np.arange(8)[::-1]
    np.savez(file, centroids=centroids[order].astype(np.float64), cluster_to_class=np.zeros(8, np.uint8))
    args = flags(textures, "--k", 8, "--raw", "--output_root", tmp_path / "here", "--load_centroids", file)
    overcluster.main(args)
    there, here = (read_ids(first(tmp_path / root, name)) for root in ("there", "here"))
    assert np.array_equal(here, 7 - there)
    provenance = read_provenance(tmp_path / "here" / name) or {}
    (entry,) = (entry for entry in provenance["inputs"] if entry["path"] == str(file))
    assert entry["sha256"] == file_sha256(file)
    assert provenance["uses_ground_truth"] is None  # nobody says what made the file
    with pytest.raises(UserError, match="add `overwrite`"):  # fitted ones are others
        overcluster.main(args[:-2])
    np.savez(file, centroids=centroids)
    with pytest.raises(UserError, match="add `overwrite`"):
        overcluster.main(args)
    overcluster.main([*args, "--overwrite"])
    assert np.array_equal(read_ids(first(tmp_path / "here", name)), there)


def test_overcluster__loaded_centroids_must_fit(textures: Path, tmp_path: Path) -> None:
    shutil.copytree(textures / "codes_cause_tr", tmp_path / "codes_cause_tr")
    args = flags(textures, "--k", 8, "--raw", "--output_root", tmp_path, "--load_centroids")
    np.savez(tmp_path / "wide.npz", centroids=np.ones((8, 5)))
    with pytest.raises(UserError, match=r"wide\.npz: clusters of 5 channels, but the codes have"):
        overcluster.main([*args, str(tmp_path / "wide.npz")])
    with pytest.raises(UserError, match=r"none\.npz: no such file; check `load_centroids`"):
        overcluster.main([*args, str(tmp_path / "none.npz")])
    np.savez(tmp_path / "many.npz", centroids=np.ones((9, 5)))
    with pytest.raises(UserError, match="give `k` 9"):
        overcluster.main([*args, str(tmp_path / "many.npz")])
    assert not (tmp_path / "pseudo_semantic_raw_k8" / "centroids.npz").exists()


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
    with pytest.raises(UserError, match=r"names\.json changed since"):
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
