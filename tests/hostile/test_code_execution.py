"""Whatever a file holds, reading it runs no code and opens nothing that it names.

The payloads are harmless: they would make a folder, the marker. Every reader and every entry script that
takes such a file has to end with one line that names the file, exit code 2, and no marker.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import cups
from cups.backbones import build_backbone
from cups.class_files import read_class_file
from cups.config import build_config, changed_settings, read_yaml
from cups.data.pseudo_label_dataset import load_statistics
from cups.io.checkpoint import load_checkpoint, load_tensors, read_file
from cups.io.files import read_npy, read_npz
from cups.model.network_config import load_config
from pseudo_labels.inputs.centroids import read_centroids
from pseudo_labels.inputs.cluster_names import clusters_in
from pseudo_labels.networks.dinosaur import load_dinosaur
from pseudo_labels.networks.refine_networks import load_network
from tests.hostile.conftest import (
    BIASES,
    SCRIPTS,
    Payload,
    hostile_pickle,
    main_of,
    python_tags,
    steps,
)

ROOT = Path(cups.__file__).resolve().parents[1]


def test_payloads__run_where_a_reader_trusts_them(tmp_path: Path) -> None:
    """These tests can fail."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "a")))
    yaml.unsafe_load(python_tags(tmp_path / "b")[0])
    torch.save({"x": Payload(tmp_path / "c")}, tmp_path / "c.pth")
    torch.load(tmp_path / "c.pth", weights_only=False)
    np.save(tmp_path / "d.npy", np.array([Payload(tmp_path / "d")], dtype=object), allow_pickle=True)
    np.load(tmp_path / "d.npy", allow_pickle=True)
    assert all((tmp_path / name).is_dir() for name in "abcd")


# Pickles: .ckpt, .pth, .pt, .pkl, .npy, .npz


def hostile_array(path: Path, marker: Path) -> Path:
    """Write an array of objects, one of them a payload, where numbers belong."""
    array = np.array([[Payload(marker)]], dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, centroids=array, masks=array, cluster_to_class=array)
    return path


PICKLES: Mapping[str, Callable[[Path], Any]] = {
    "a.ckpt": load_checkpoint,
    "b.ckpt": cups.load,
    "a.pth": load_tensors,
    "b.pth": read_file,
    "c.pth": load_network,
    "d.pth": load_dinosaur,
    "e.pth": lambda path: build_backbone(f"own:{path}"),
    "a.pkl": load_checkpoint,
    "labels/a.pt": lambda path: load_statistics(path.parent),
}


@pytest.mark.parametrize("kind", ["plain", "legacy", "zip"])
@pytest.mark.parametrize("name", PICKLES)
def test_pickle__is_refused(
    name: str, kind: str, tmp_path: Path, marker: Path, refused: Callable[..., str]
) -> None:
    path = hostile_pickle(tmp_path / name, marker, kind)
    refused(lambda: PICKLES[name](path), path.name)


ARRAYS: Mapping[str, Callable[[Path], Any]] = {
    "a.npy": read_npy,
    "a.npz": lambda path: read_npz(path, ["centroids"]),
    "b.npz": lambda path: read_centroids(path, 1),
    "centroids.npz": lambda path: clusters_in(path.parent, 1),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_array_of_objects__is_refused(
    name: str, tmp_path: Path, marker: Path, refused: Callable[..., str]
) -> None:
    path = hostile_array(tmp_path / name, marker)
    refused(lambda: ARRAYS[name](path), path.name)


@pytest.mark.parametrize("script", SCRIPTS)
def test_entry_script__refuses_a_hostile_checkpoint(
    script: str, tmp_path: Path, marker: Path, photos: Path, refused: Callable[..., str]
) -> None:
    path = hostile_pickle(tmp_path / "hostile.ckpt", marker, "zip")
    assert "mkdir" in refused(SCRIPTS[script](path, photos), "hostile.ckpt")


@pytest.mark.parametrize("file", ["encoder.pth", "depth.pth"])
def test_depth__refuses_hostile_weights(
    file: str, tmp_path: Path, marker: Path, photos: Path, refused: Callable[..., str]
) -> None:
    for name in ("encoder.pth", "depth.pth"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
    hostile_pickle(tmp_path / file, marker, "zip")
    given = steps(photos, tmp_path / "root")
    refused(main_of("pseudo_labels.generate_depth_spidepth", *given, "--checkpoint_dir", tmp_path), file)


def test_overclusters__refuse_hostile_centroids(
    tmp_path: Path, marker: Path, photos: Path, refused: Callable[..., str]
) -> None:
    path = hostile_array(tmp_path / "given.npz", marker)
    given = [*steps(photos, tmp_path / "root"), "--k", 1, "--load_centroids", path, "--features", "codes"]
    (tmp_path / "root" / "codes_cause_tr").mkdir(parents=True)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / "root" / "codes_cause_tr" / name, np.zeros((2, 4, 3), dtype=np.float16))
    refused(main_of("pseudo_labels.generate_overclustered_semantics", *given), "given.npz")


# YAML

ALIASES = "".join(
    f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_YAML: Mapping[str, bytes] = {
    "a thousand million laughs": f"a: &a [x, x, x, x, x, x, x, x, x]\n{ALIASES}".encode(),
    "merged laughs": b"a: &a {x: 1}\n"
    + b"b: &b {<<: [*a, *a], y: &c [*a, *a]}\n"
    + b"d: !!python/tuple [1]\n",
    "an alias of itself": b"MODEL: &a [*a]\n",
    "depth": b"a: " + b"[" * 100_000,
    "a number of a million digits": b"a: " + b"9" * 100_000,
    "latin-1": "a: für\n".encode("latin-1"),
    "no YAML": b"a: [1, 2",
    "a control character": b"a: \x00\n",
    "a tag that does not fit": b"a: !!int x\n",
    "another tag that does not fit": b"a: !!timestamp x\n",
    "size": b"#" * 300_000,
}
YAML_READERS: Mapping[str, Callable[[Path], Any]] = {
    "--experiment_config_file": read_yaml,
    "the config of a run folder": lambda path: changed_settings(build_config(), path),
    "MODEL.CONFIG": load_config,
    "a class file": read_class_file,
}


@pytest.mark.parametrize("reader", YAML_READERS)
def test_yaml__python_tags_and_bombs_are_refused(
    reader: str, tmp_path: Path, marker: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "hostile.yaml"
    bad = BAD_YAML.values() if reader == "MODEL.CONFIG" else ()
    for content in [*bad, *(text.encode() for text in python_tags(marker))]:
        path.write_bytes(content)
        told = refused(lambda: YAML_READERS[reader](path), "hostile.yaml")
        assert len(told) < 500


@pytest.mark.parametrize("bases", ["below.yaml", "[x.yaml, below.yaml]"])
def test_yaml__bases_are_read_as_safely(
    bases: str, tmp_path: Path, marker: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "top.yaml").write_text(f"_BASE_: {bases}\n")
    (tmp_path / "x.yaml").write_text("")
    (tmp_path / "below.yaml").write_text(python_tags(marker)[0])
    for reader in (read_yaml, load_config):
        refused(lambda reader=reader: reader(tmp_path / "top.yaml"), "below.yaml")
    (tmp_path / "below.yaml").write_text("_BASE_: [top.yaml]\n")
    for reader in (read_yaml, load_config):
        assert "leads back" in refused(lambda reader=reader: reader(tmp_path / "top.yaml"), "top.yaml")


def test_yaml__bases_that_multiply_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    for number in range(30):
        below = f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]\n" if number < 29 else ""
        (tmp_path / f"{number}.yaml").write_text(below)
    assert "more than" in refused(lambda: read_yaml(tmp_path / "0.yaml"), ".yaml")


def test_entry_scripts__refuse_hostile_yaml(
    tmp_path: Path, marker: Path, photos: Path, refused: Callable[..., str]
) -> None:
    path, checkpoint = tmp_path / "hostile.yaml", tmp_path / "a.ckpt"
    path.write_text(python_tags(marker)[0])
    torch.save(
        {"state_dict": BIASES, "hyper_parameters": {"model": {"model_config": "own.yaml"}}}, checkpoint
    )
    for script in ("train", "train_hybrid", "train_self", "val"):
        refused(main_of(script, "--experiment_config_file", path), "hostile.yaml")
    given = ["--checkpoint", checkpoint, "--image_dir", photos, "--output_dir", tmp_path / "out"]
    refused(main_of("val", *given, "MODEL.CONFIG", path), "hostile.yaml")
    given = ["--checkpoint", checkpoint, "--data_root", photos, "--log_path", tmp_path, "--run_name", "run"]
    given += ["MODEL.CONFIG", path, "SELF_TRAINING.SELECT_FRAMES", 1]
    refused(main_of("train_self", *given), "hostile.yaml")
    refused(main_of("val", "--classes", path, "--truth", photos, "--prediction", photos), "hostile.yaml")


def test_yaml__one_module_reads_it() -> None:
    """Guard: detectron2's and PyYAML's readers are called nowhere else."""
    allowed = {"cups/io/yaml_files.py"}
    forbidden = {
        "merge_from_file",
        "load_yaml_with_base",
        "load_cfg",
        "unsafe_load",
        "full_load",
        "safe_load",
    }
    rooms = ("cups", "pseudo_labels", "refs", "studies", "scripts", "benchmarks", "")
    found = set()
    for path in {file for room in rooms for file in (ROOT / room).glob("**/*.py" if room else "*.py")}:
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in ("yaml", *forbidden)):
            continue
        for node in ast.walk(ast.parse(text)):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            attribute = node.attr if isinstance(node, ast.Attribute) else ""
            if "yaml" in names or attribute in forbidden:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == allowed
