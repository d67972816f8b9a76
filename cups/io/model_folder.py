"""A published network: a folder of `model.safetensors`, `config.json` and `README.md`, as model hubs have it.

Nothing in it is code. `config.json` says what a checkpoint's hyper-parameters say, each value of its kind;
what they mean for a network is checked where it is built.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.files import read_json

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
MODEL_TYPE = "cups-panoptic"
VERSION = 1
FIX = "get the folder again from where it was published, or export it again"
LONGEST_TEXT = 1000
MOST_VALUES = 100_000
"""In one list or mapping: more than the most classes of a network."""
DEEPEST = 8


def _is_plain(value: Any, levels: int = DEEPEST) -> bool:
    """Return whether a value is made of numbers, short text, lists and mappings, and not too deep."""
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    if isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        names = value if isinstance(value, dict) else ()
        fits = len(value) <= MOST_VALUES and all(len(name) <= LONGEST_TEXT for name in names)
        return levels > 0 and fits and all(_is_plain(item, levels - 1) for item in items)
    return value is None or isinstance(value, bool | int | float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and _is_plain(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and _is_plain(value)


STORED: Mapping[str, Callable[[Any], bool]] = {
    "model": _is_mapping,
    "working_size": _is_list,
    "thing_pseudo_classes": _is_list,
    "stuff_pseudo_classes": _is_list,
    "classes": _is_list,
    "provenance": _is_mapping,
}
"""What a folder carries on of a checkpoint's hyper-parameters, and the kind of each value."""


def weights_file(path: str | Path) -> Path:
    """Return the file of a checkpoint: of a published folder its weights, of all else the path itself."""
    path = Path(path)
    return path / WEIGHTS_FILE if os.path.isdir(path) else path  # False for any name that can be none


def config_beside(weights: Path) -> Path | None:
    """Return the `config.json` that makes a safetensors file a published network of ours.

    A folder of another library holds a file of that name too: it says another `model_type`, or none.
    """
    path = weights.with_name(CONFIG_FILE)
    if weights.name != WEIGHTS_FILE or not path.is_file():
        return None
    return path if read_json(path, FIX).get("model_type") == MODEL_TYPE else None


def read_config(path: Path) -> dict[str, Any]:
    """Return the hyper-parameters that a `config.json` holds.

    Raises:
        UserError: no such file of ours, an unknown key, or a value of another kind than its key's.
    """
    content = read_json(path, FIX)
    head = {"model_type": MODEL_TYPE, "version": VERSION}
    for key, wanted in head.items():
        if (found := content.get(key)) != wanted or type(found) is not type(wanted):
            raise UserError(f"{path}: its {key} is not {wanted}, the one that is read; {FIX}")
    stored = {key: value for key, value in content.items() if key not in head}
    for key, value in stored.items():
        if key not in STORED:
            raise UserError(f"{path}: has the key {key[:80]!r}, which is unknown; {FIX}")
        if not STORED[key](value):
            raise UserError(f"{path}: {key} holds a value of another kind, too long or too deep; {FIX}")
    return stored
