"""Harmless payloads, the files that carry them, and what has to become of who reads them."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.errors import run_main
from cups.io.checkpoint import STUFF_BIAS, THING_BIAS
from cups.io.png import write_png

THINGS, STUFFS = 3, 4
BIASES = {THING_BIAS: torch.zeros(THINGS), STUFF_BIAS: torch.zeros(STUFFS + 1)}
"""As little of a panoptic network as its class counts are read from."""


class Payload:
    """Makes the marker when it is unpickled by a reader that trusts its file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def python_tags(marker: Path) -> list[str]:
    """YAML that makes the marker in a loader that trusts its file."""
    return [
        f"MODEL: !!python/object/apply:os.mkdir ['{marker}']\n",
        f"MODEL: {{A: [!!python/object/new:os.mkdir ['{marker}']]}}\n",
        "MODEL: !!python/name:os.system\n",
    ]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / "photos" / name, np.zeros((64, 128, 3), dtype=np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def refused(marker: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what a run says that has to be refused for a file, and look for the marker."""

    def check(run: Callable[[], Any], name: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_main(run)
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not marker.exists(), "code of the file was run"
        assert ended.value.code == 2 and len(told) == 1 and name in told[0], told
        return told[0]

    return check


def hostile_pickle(path: Path, marker: Path, kind: str) -> Path:
    """Write what a reader of tensors expects, and a payload in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"state_dict": dict(BIASES), "settings": {"shape": Payload(marker)}, "x": Payload(marker)}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def main_of(script: str, *argv: Any) -> Callable[[], Any]:
    """Return the main function of a script, run in this process with these arguments."""
    return lambda: importlib.import_module(script).main([str(word) for word in argv])


def steps(photos: Path, root: Path) -> list[Any]:
    """Return the flags that each step of Stage 1 needs."""
    return ["--image_dir", photos, "--output_root", root]


SCRIPTS: Mapping[str, Callable[[Path, Path], Callable[[], Any]]] = {
    "predict": lambda path, photos: main_of(
        "predict", "--checkpoint", path, "--input", photos, "--output", path.parent / "out"
    ),
    "val": lambda path, photos: main_of(
        "val", "--checkpoint", path, "--image_dir", photos, "--output_dir", path.parent / "out"
    ),
    "train": lambda path, photos: main_of(
        *("train", "--checkpoint", path, "--data_root", photos, "--pseudo_root", photos),
        *("--log_path", path.parent, "--run_name", "run", "--disable_wandb"),
    ),
    "train_self": lambda path, photos: main_of(
        *("train_self", "--checkpoint", path, "--data_root", photos, "--log_path", path.parent),
        *("--run_name", "run", "--disable_wandb", "SELF_TRAINING.SELECT_FRAMES", 1),
    ),
    "generate_refined_semantics": lambda path, photos: main_of(
        "pseudo_labels.generate_refined_semantics", *steps(photos, path.parent), "--checkpoint", path
    ),
    "generate_dinosaur_instances": lambda path, photos: main_of(
        "pseudo_labels.generate_dinosaur_instances", *steps(photos, path.parent), "--checkpoint", path
    ),
    "extract_dinov2_features": lambda path, photos: main_of(
        "pseudo_labels.extract_dinov2_features", *steps(photos, path.parent), "--backbone", f"own:{path}"
    ),
}
