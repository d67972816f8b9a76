"""Names of the backbones, for command lines and configurations: this module loads no network."""

from __future__ import annotations

from pathlib import Path

from cups.errors import UserError
from cups.io.files import read_json

TEXTON = "texton"
"""The backbone that has no weights."""
DINOV2_NAMES = (
    "dinov2_vits14",
    "dinov2_vitb14",
    "dinov2_vitl14",
    "dinov2_vits14_reg",
    "dinov2_vitb14_reg",
    "dinov2_vitl14_reg",
)
"""`_reg`: with four register tokens (Darcet et al., ICLR 2024)."""
DINOV3_NAMES = ("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16")
NAMES = (TEXTON, *DINOV2_NAMES, *DINOV3_NAMES)
DEFAULT_DINOV2 = "dinov2_vitb14"
DEFAULT_DINOV3 = "dinov3_vitb16"
OWN = "own:"
"""Begins the name of a backbone that `train_backbone.py` trained: `own:PATH` of its file, or its folder."""
OWN_FILE = "backbone.pth"
MOST_ROWS = 8192
"""That a file may say a backbone was trained at."""


class Choices(tuple[str, ...]):
    """Names of backbones, as choices of a flag: besides those listed, `own:PATH` is one."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and is_own(name))


CHOICES = Choices((*NAMES, f"{OWN}PATH"))


def is_own(name: str | None) -> bool:
    """Return whether a name is `own:PATH`."""
    return name is not None and name.startswith(OWN) and len(name) > len(OWN)


def own_path(name: str) -> Path:
    """Return the file that `own:PATH` names."""
    path = Path(name.removeprefix(OWN))
    return path / OWN_FILE if path.is_dir() else path


def folder_name(name: str) -> str:
    """Return what a backbone is called in names of folders: `own` for any `own:PATH`."""
    return OWN.rstrip(":") if is_own(name) else name


def own_rows(name: str) -> int:
    """Return the image height that `own:PATH` was trained at; 0, as it is, where nothing tells."""
    told = own_path(name).with_name("provenance.json")
    try:
        rows = int(read_json(told, "")["arguments"]["height"])
    except (UserError, ValueError, KeyError, TypeError, OverflowError):
        return 0
    return rows if 0 <= rows <= MOST_ROWS else 0
