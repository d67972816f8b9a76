"""The architecture of the panoptic network as plain values: every key that building it reads, with its range.

A checkpoint carries these and nothing else of detectron2's config. Names of parts are those of this table, so
that no file chooses what is looked up in a registry; numbers are bounded, so that none makes a network larger
than any that somebody trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cups.backbones.names import NAMES
from cups.errors import UserError

MOST_CLASSES = 65534
"""Of things, and of stuff: 16 bits, beside void."""


@dataclass(frozen=True)
class Rule:
    """The values that a key takes: them in a few words, and whether a value is one of them."""

    allowed: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(low: int, high: int) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Rule(f"a whole number {low}-{high}", accepts)


def _number(low: float, high: float) -> Rule:
    return Rule(f"a number {low:g}-{high:g}", lambda value: _is_number(value) and bool(low <= value <= high))


def _one_of(*names: str | bool | int) -> Rule:
    def accepts(value: Any) -> bool:
        return any(type(value) is type(name) and value == name for name in names)

    return Rule(", ".join(str(name) or "''" for name in names), accepts)


def _listed(item: Rule, least: int, most: int) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and least <= len(value) <= most and all(map(item.accepts, value))

    count = str(most) if least == most else f"{least}-{most}"
    return Rule(f"a list of {count}, each {item.allowed}", accepts)


_SWITCH = Rule("True, False", lambda value: isinstance(value, bool))
_SHARE = _number(0, 1)
_WEIGHT = _number(0, 1e6)
_NORM = _one_of("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
_CHANNELS = _whole(1, 8192)
_LAYERS = _whole(0, 16)
_REGIONS = _whole(1, 100_000)
_STAGES = _listed(_one_of("res2", "res3", "res4", "res5"), 1, 4)
_LEVELS = _listed(_one_of("p2", "p3", "p4", "p5", "p6"), 1, 5)
_BOX_WEIGHTS = _listed(_number(1e-3, 1e4), 4, 4)
_BOX_LOSS = _one_of("smooth_l1", "giou", "diou", "ciou")
_LABELS = _listed(_whole(-1, 1), 1, 8)
_POOLER = _one_of("ROIAlign", "ROIAlignV2", "ROIPool")

_TRUNK = {
    "INPUT.FORMAT": _one_of("RGB", "BGR"),
    "MODEL.META_ARCHITECTURE": _one_of("CustomPanopticFPN", "GeneralizedRCNN"),
    "MODEL.PIXEL_MEAN": _listed(_number(-1e4, 1e4), 3, 3),
    "MODEL.PIXEL_STD": _listed(_number(1e-6, 1e4), 3, 3),
    "MODEL.MASK_ON": _SWITCH,
    "MODEL.KEYPOINT_ON": _one_of(False),
    "MODEL.BACKBONE.NAME": _one_of("build_resnet_fpn_backbone", "build_vit_backbone"),
    "MODEL.BACKBONE.FREEZE_AT": _whole(0, 5),
    "MODEL.VIT.NAME": _one_of(*NAMES),
    "MODEL.VIT.FROZEN": _SWITCH,
    "MODEL.VIT.GRADIENT_CHECKPOINTING": _SWITCH,
    "MODEL.RESNETS.DEPTH": _one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.NORM": _NORM,
    "MODEL.RESNETS.OUT_FEATURES": _STAGES,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _CHANNELS,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _whole(1, 1024),
    "MODEL.RESNETS.WIDTH_PER_GROUP": _whole(1, 1024),
    "MODEL.RESNETS.NUM_GROUPS": _whole(1, 256),
    "MODEL.RESNETS.STRIDE_IN_1X1": _SWITCH,
    "MODEL.RESNETS.RES5_DILATION": _one_of(1, 2),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": _listed(_SWITCH, 4, 4),
    "MODEL.RESNETS.DEFORM_MODULATED": _SWITCH,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": _whole(1, 256),
    "MODEL.FPN.IN_FEATURES": _STAGES,
    "MODEL.FPN.OUT_CHANNELS": _CHANNELS,
    "MODEL.FPN.NORM": _NORM,
    "MODEL.FPN.FUSE_TYPE": _one_of("sum", "avg"),
}
_PROPOSALS = {
    "MODEL.ANCHOR_GENERATOR.NAME": _one_of("DefaultAnchorGenerator"),
    "MODEL.ANCHOR_GENERATOR.SIZES": _listed(_listed(_number(1, 65536), 1, 16), 1, 8),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": _listed(_listed(_number(0.001, 1000), 1, 16), 1, 8),
    "MODEL.ANCHOR_GENERATOR.OFFSET": _SHARE,
    "MODEL.PROPOSAL_GENERATOR.NAME": _one_of("CustomRPN", "RPN"),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": _number(0, 65536),
    "MODEL.RPN.HEAD_NAME": _one_of("StandardRPNHead"),
    "MODEL.RPN.IN_FEATURES": _LEVELS,
    "MODEL.RPN.CONV_DIMS": _listed(_whole(-1, 8192), 1, 16),
    "MODEL.RPN.BOUNDARY_THRESH": _number(-1, 65536),
    "MODEL.RPN.IOU_THRESHOLDS": _listed(_SHARE, 1, 8),
    "MODEL.RPN.IOU_LABELS": _LABELS,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _REGIONS,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": _WEIGHT,
    "MODEL.RPN.BBOX_REG_WEIGHTS": _BOX_WEIGHTS,
    "MODEL.RPN.SMOOTH_L1_BETA": _WEIGHT,
    "MODEL.RPN.LOSS_WEIGHT": _WEIGHT,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _REGIONS,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _REGIONS,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _REGIONS,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _REGIONS,
}
_OBJECTS = {
    "MODEL.ROI_HEADS.NAME": _one_of("CustomCascadeROIHeads", "CascadeROIHeads", "StandardROIHeads"),
    "MODEL.ROI_HEADS.IN_FEATURES": _LEVELS,
    "MODEL.ROI_HEADS.THINGS_TOGETHER": _SWITCH,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _listed(_SHARE, 1, 8),
    "MODEL.ROI_HEADS.IOU_LABELS": _LABELS,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _REGIONS,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": _SWITCH,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": _listed(_SHARE, 1, 8),
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": _listed(_BOX_WEIGHTS, 1, 8),
    "MODEL.ROI_BOX_HEAD.NAME": _one_of("FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": _WEIGHT,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": _BOX_WEIGHTS,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": _SWITCH,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": _WEIGHT,
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": _SWITCH,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.NUM_FC": _LAYERS,
    "MODEL.ROI_BOX_HEAD.FC_DIM": _CHANNELS,
    "MODEL.ROI_BOX_HEAD.NORM": _NORM,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": _POOLER,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _whole(1, 64),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": _LAYERS,
    "MODEL.ROI_MASK_HEAD.NAME": _one_of("CustomMaskHead", "MaskRCNNConvUpsampleHead"),
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": _SWITCH,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _LAYERS,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": _CHANNELS,
    "MODEL.ROI_MASK_HEAD.NORM": _NORM,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": _POOLER,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": _whole(1, 64),
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": _LAYERS,
    "TEST.DETECTIONS_PER_IMAGE": _REGIONS,
}
_STUFF = {
    "MODEL.SEM_SEG_HEAD.NAME": _one_of("CustomSemSegFPNHead", "SemSegFPNHead"),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": _LEVELS,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": _CHANNELS,
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": _one_of(4, 8, 16, 32),
    "MODEL.SEM_SEG_HEAD.NORM": _NORM,
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": _whole(0, 65535),
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": _WEIGHT,
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT": _WEIGHT,
    "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": _SWITCH,
    "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH": _SHARE,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": _number(0, 1e9),
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION": _SHARE,
    "MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST": _SWITCH,
    "MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS": _SWITCH,
    "MODEL.PANOPTIC_FPN.COMBINE.SEMANTIC_WEIGHT": _SHARE,
}
RULES: Mapping[str, Rule] = {**_TRUNK, **_PROPOSALS, **_OBJECTS, **_STUFF}
"""Each key of detectron2's config that decides what is built, beside those that the builder sets itself."""
SET_BY_THE_BUILDER = frozenset(
    {
        "MODEL.DEVICE",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "MODEL.ROI_HEADS.USE_DROPLOSS",
        "MODEL.ROI_HEADS.DROPLOSS_IOU_THRESH",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        "MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS",
        "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
    }
)
"""By its arguments, whatever a file says."""


def as_plain(value: Any, levels: int = 3) -> Any:
    """Return a value with lists in place of tuples: as checkpoints hold it, and as `RULES` expect it.

    levels: lists within lists; what lies deeper is no value of any key and stays as it is.
    """
    if not levels or not isinstance(value, list | tuple):
        return value
    return [as_plain(item, levels - 1) for item in value]


def checked_architecture(told: Any, where: str, fix: str) -> dict[str, Any]:
    """Return an architecture as plain values, after each of them was found within its range.

    Args:
        told: {dotted key: value}, some or all keys of `RULES`.
        where: the file, for the error.
        fix: what to do about it.

    Raises:
        UserError: no such mapping, an unknown key, or a value that its key does not take.
    """
    if not isinstance(told, Mapping):
        raise UserError(f"{where}: holds no architecture (keys and values); {fix}")
    checked: dict[str, Any] = {}
    for key, value in told.items():
        if key not in RULES:
            raise UserError(f"{where}: its architecture has the key {_short(key)}, which is unknown; {fix}")
        value = as_plain(value)
        if not RULES[key].accepts(value):
            raise UserError(f"{where}: {key} is {_short(value)}; it must be {RULES[key].allowed}; {fix}")
        checked[key] = value
    return checked


def _short(value: Any) -> str:
    """Return a value on one short line, without writing out a large one."""
    if isinstance(value, list):
        text = f"a list of {len(value)}: {', '.join(_short(item) for item in value[:4])}"
    elif isinstance(value, int) and abs(value) > 10**20:
        text = "a huge number"
    else:
        plain = value is None or isinstance(value, str | int | float)
        text = repr(value) if plain else type(value).__name__
    return " ".join(text.split())[:80]
