"""The published checkpoints that we know: `refs/weights.yaml`, where their files lie and come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

import refs

ROOT = Path(refs.__file__).parents[1]
"""The checkout; paths in the table are relative to it."""


@dataclass(frozen=True)
class WeightFile:
    """One file of a checkpoint: where the code looks for it, where it is published, its checksum if given."""

    path: Path
    url: str | None = None
    sha256: str | None = None


@cache
def weight_table() -> dict[str, dict[str, Any]]:
    """Return the entries of `refs/weights.yaml` by name."""
    return yaml.safe_load((resources.files("refs") / "weights.yaml").read_text())


def weight_files(name: str, root: Path = ROOT) -> list[WeightFile]:
    """Return the files of a checkpoint, below `root`."""
    files = weight_table()[name]["files"]
    return [WeightFile(root / file["path"], file["url"], file["sha256"]) for file in files]


def how_to_get(name: str) -> str:
    """Return one sentence on where a checkpoint comes from."""
    entry = weight_table()[name]
    if all(file.url for file in weight_files(name)):
        return f"bash scripts/download_checkpoints.sh --only {name}"
    return f"{entry['source']}: {entry['how']}"
