"""The published checkpoints that we know: `refs/weights.yaml`, where their files lie and come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import refs
from cups.io.yaml_files import load_yaml

ROOT = Path(refs.__file__).parents[1]
"""The checkout; paths in the table are relative to it."""
TABLE = Path(refs.__file__).with_name("weights.yaml")
USUAL_FOLDERS = (Path("refs/cause/CAUSE"), Path("cups/model/backbone_checkpoints"), Path("checkpoints"))
"""Where people put weights under their publisher's names, relative to the checkout."""
SAFE_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class WeightFile:
    """One file of a checkpoint.

    Attributes:
        path: where the code looks for it first, and where it is downloaded to.
        url, sha256: where it is published, and its checksum if the publisher gives one.
        names: its publisher's file names, as glob patterns.
    """

    path: Path
    url: str | None = None
    sha256: str | None = None
    names: tuple[str, ...] = ()

    def find(self, folder: Path | None = None) -> Path | None:
        """Return the file under its own name or its publisher's, or as safetensors; None if there is none.

        folder: look there alone, not in the usual folders.
        """
        if folder is None and (own := stored_at(self.path)).is_file():
            return own
        for place in self.folders if folder is None else (folder,):
            for name in (self.path.name, *self.names):
                for pattern in (name, str(Path(name).with_suffix(SAFE_SUFFIX))):
                    if found := sorted(file for file in place.glob(pattern) if file.is_file()):
                        return found[0]
        return None

    @property
    def folders(self) -> list[Path]:
        """Where the publisher's names are looked for: beside `path`, and in the usual folders."""
        return list(dict.fromkeys((self.path.parent, *(ROOT / folder for folder in USUAL_FOLDERS))))

    def looked_for(self) -> str:
        """Return the names and folders of a search as part of a sentence, for errors."""
        names = ", ".join(dict.fromkeys((self.path.name, *self.names)))
        folders = ", ".join(str(_within_checkout(folder)) for folder in self.folders)
        return f"looked for {names} (or {SAFE_SUFFIX}) in {folders}"


def _within_checkout(folder: Path) -> Path:
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def stored_at(path: Path) -> Path:
    """Return `path`, or the safetensors file beside it where only that exists."""
    beside = path.with_suffix(SAFE_SUFFIX)
    return beside if not path.is_file() and beside.is_file() else path


@cache
def weight_table() -> dict[str, dict[str, Any]]:
    """Return the entries of `refs/weights.yaml` by name."""
    table: dict[str, dict[str, Any]] = load_yaml(TABLE, "restore it from the repository")
    return table


def weight_files(name: str, root: Path = ROOT) -> list[WeightFile]:
    """Return the files of a checkpoint, below `root`."""
    files = weight_table()[name]["files"]
    return [
        WeightFile(root / file["path"], file["url"], file["sha256"], tuple(file.get("names", ())))
        for file in files
    ]


def how_to_get(name: str) -> str:
    """Return one sentence on where a checkpoint comes from."""
    entry = weight_table()[name]
    if all(file.url for file in weight_files(name)):
        return f"bash scripts/download_checkpoints.sh --only {name}"
    return f"{entry['source']}: {entry['how']}"
