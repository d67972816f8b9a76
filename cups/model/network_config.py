"""Detectron2's config tree of the network: from our YAML files, a user's, or what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from cups.defaults import DROP_LOSS_IOU
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint
from cups.io.yaml_files import read_layers
from cups.model.architecture import RULES, as_plain, checked_architecture

CONFIG_DIR = Path(__file__).parent
DEFAULT_CONFIG = "Panoptic-Cascade-Mask-R-CNN.yaml"
SHIPPED = frozenset(path.name for path in CONFIG_DIR.glob("*.yaml"))
"""Names of the YAML files beside this module: the only ones that a checkpoint may name."""
VERSION = 2
"""Of detectron2's keys."""
UNMERGEABLE = (
    *(KeyError, AssertionError, ValueError, TypeError, AttributeError),
    *(RecursionError, MemoryError),  # text that is read as a literal, too deep for the parser
)
MOST_OVERRIDES = 1000
LONGEST_TEXT = 200
_OF_A_FILE = "get the checkpoint again from where it was trained"
_OF_A_USER = "change it in MODEL.CONFIG or MODEL.OVERRIDES"


def base_config() -> CfgNode:
    """Return detectron2's config tree with our keys at their defaults."""
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.USE_DROPLOSS = False
    cfg.MODEL.ROI_HEADS.DROPLOSS_IOU_THRESH = DROP_LOSS_IOU
    cfg.MODEL.ROI_HEADS.THINGS_TOGETHER = False
    cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS = []
    cfg.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION = 0.0
    cfg.MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST = False
    cfg.MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS = False
    cfg.MODEL.PANOPTIC_FPN.COMBINE.SEMANTIC_WEIGHT = 0.0
    cfg.MODEL.VIT = CfgNode({"NAME": "dinov2_vitb14", "FROZEN": True, "GRADIENT_CHECKPOINTING": False})
    return cfg


def load_config(model_config: str | Path = DEFAULT_CONFIG, overrides: Sequence[Any] = ()) -> CfgNode:
    """Return detectron2's config tree with our keys, a model YAML and KEY VALUE overrides merged in.

    Args:
        model_config: name of a YAML beside this module, or a path; never out of a checkpoint
            (`stored_architecture`).
        overrides: KEY, VALUE, KEY, VALUE, ... of detectron2's tree.

    Raises:
        UserError: for a missing file, an unknown key or an impossible value.
    """
    cfg = base_config()
    path = CONFIG_DIR / model_config
    if not path.is_file() and Path(model_config).is_file():
        path = Path(model_config)
    if not path.is_file():
        raise UserError(
            f"{model_config}: no such model config; give a path or one of {', '.join(sorted(SHIPPED))}"
        )
    try:
        for layer in read_layers(path, "check MODEL.CONFIG"):
            version = layer.content.get("VERSION", VERSION)
            if version != VERSION:
                raise ValueError(f"keys of version {version}, not {VERSION}")
            cfg.merge_from_other_cfg(CfgNode(layer.content))
        cfg.merge_from_list(list(overrides))
    except UNMERGEABLE as error:
        reason = (str(error).strip("'\"") or type(error).__name__).splitlines()[0]
        raise UserError(f"{path.name} or model overrides: {reason}; use detectron2's config keys") from error
    checked_architecture(_values(cfg), f"{path.name} or model overrides", _OF_A_USER)
    return cfg


def architecture_of(cfg: CfgNode) -> dict[str, Any]:
    """Return what a checkpoint holds of a config tree: {dotted key: plain value}, every key of `RULES`."""
    return checked_architecture(_values(cfg), "model config", _OF_A_USER)


def _values(cfg: CfgNode) -> dict[str, Any]:
    return {key: as_plain(_node(cfg, key)[key.rpartition(".")[2]]) for key in RULES}


def _node(cfg: CfgNode, key: str) -> CfgNode:
    node = cfg
    for part in key.split(".")[:-1]:
        node = node[part]
    return node


def config_of(architecture: Mapping[str, Any]) -> CfgNode:
    """Return the config tree of an architecture; keys that it lacks are at their defaults."""
    cfg = base_config()
    for key, value in checked_architecture(architecture, "architecture", _OF_A_FILE).items():
        node, name = _node(cfg, key), key.rpartition(".")[2]
        node[name] = tuple(value) if isinstance(node[name], tuple) else value
    return cfg


def is_shipped(architecture: Mapping[str, Any]) -> bool:
    """Return whether an architecture is that of one of our YAML files, without overrides."""
    return dict(architecture) in _shipped_architectures()


@cache
def _published() -> dict[str, Any]:
    return architecture_of(load_config(DEFAULT_CONFIG))


@cache
def _shipped_architectures() -> list[dict[str, Any]]:
    return [architecture_of(load_config(name)) for name in sorted(SHIPPED) if name.startswith("Panoptic")]


def stored_architecture(checkpoint: Checkpoint, model_config: str | Path | None = None) -> dict[str, Any]:
    """Return the architecture that a checkpoint tells; the published one's values where it tells none.

    Checkpoints of earlier versions name a YAML of ours and overrides. No other file that one names is opened.

    Args:
        model_config: a YAML of the user, for checkpoints of earlier versions that were trained with one.

    Raises:
        UserError: an unknown key, a value out of its range, or the name of another file than ours.
    """
    told = checkpoint.section("model")
    if "architecture" in told:
        checked = checked_architecture(told["architecture"], str(checkpoint.path), _OF_A_FILE)
        return {**_published(), **checked}
    name = told.get("model_config", DEFAULT_CONFIG)
    if not isinstance(name, str) or name not in SHIPPED:
        if model_config is None:
            shown = name[:80] if isinstance(name, str) else type(name).__name__
            raise UserError(
                f"{checkpoint.path}: names the model config {' '.join(shown.split())!r}, and no file that a "
                "checkpoint names is opened; if you have it, give it to val.py with MODEL.CONFIG, which "
                "predicts with `image_dir` too"
            )
        name = model_config
    overrides = _checked_overrides(told.get("model_overrides", ()), checkpoint.path)
    try:
        return architecture_of(load_config(name, overrides))
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from None


def _checked_overrides(told: Any, path: Path) -> list[Any]:
    """Return overrides of a checkpoint if they are short pairs of a key of the network and a plain value."""
    pairs = told if isinstance(told, list | tuple) else [None]
    fits = len(pairs) % 2 == 0 and len(pairs) <= MOST_OVERRIDES
    if not fits or not all(isinstance(key, str) and _is_short(key) for key in pairs[::2]):
        raise UserError(f"{path}: holds model overrides that are no pairs of key and value; {_OF_A_FILE}")
    if wrong := [key for key, value in zip(pairs[::2], pairs[1::2], strict=True) if not _is_short(value)]:
        raise UserError(f"{path}: holds a model override {wrong[0]} that is no plain value; {_OF_A_FILE}")
    return list(pairs)


def _is_short(value: Any, levels: int = 3) -> bool:
    """Return whether a value is plain, and so small that reading it as a literal costs nothing."""
    if isinstance(value, list | tuple):
        return levels > 0 and len(value) <= 64 and all(_is_short(item, levels - 1) for item in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float)
