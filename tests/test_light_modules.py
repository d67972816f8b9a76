"""Reading and writing files needs no network library: a script's `--help` must not wait for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = (
    "cups.errors",
    "cups.taxonomy",
    "cups.visualization",
    "cups.class_files",
    "cups.set_files",
    "cups.io.coco_panoptic",
    "cups.io.file_names",
    "cups.io.files",
    "cups.io.images",
    "cups.io.locking",
    "cups.io.markdown",
    "cups.io.png",
    "cups.io.provenance",
    "cups.io.shipped",
    "cups.io.weights",
)
STEPS = (
    "pseudo_labels.generators.instances",
    "pseudo_labels.generators.overclusters",
    "pseudo_labels.generators.panoptic",
    "pseudo_labels.generators.train_ids",
)
"""Steps that need no network, or only with some settings: its libraries take longer to load than they run."""
HEAVY = ("torch", "scipy", "sklearn", "pytorch_lightning", "detectron2", "matplotlib")


@pytest.mark.parametrize("modules", [LIGHT, STEPS], ids=["light", "steps"])
def test_light_modules__import_no_heavy_library(modules: tuple[str, ...]) -> None:
    root = Path(__file__).resolve().parents[1]
    assert all((root / Path(*name.split("."))).with_suffix(".py").is_file() for name in modules)
    code = f"import sys, {', '.join(modules)}; print(sorted(set(sys.modules) & set({HEAVY})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "[]"
