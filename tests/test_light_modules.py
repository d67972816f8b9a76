"""Reading and writing files needs no network library: a script's `--help` must not wait for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
HEAVY = ("torch", "scipy", "sklearn", "pytorch_lightning", "detectron2", "matplotlib")


def test_light_modules__import_no_heavy_library() -> None:
    root = Path(__file__).resolve().parents[1]
    assert all((root / Path(*name.split("."))).with_suffix(".py").is_file() for name in LIGHT)
    code = f"import sys, {', '.join(LIGHT)}; print(sorted(set(sys.modules) & set({HEAVY})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "[]"
