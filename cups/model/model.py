"""Builders of the Panoptic Cascade Mask R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from cups.defaults import CONFIDENCE_THRESHOLD, DROP_LOSS_IOU
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, class_counts, load_checkpoint, load_into, load_trunk
from cups.model import modeling
from cups.model.backbone_dinov2_vit import SimpleFeaturePyramid
from cups.structures import PseudoClasses

SNAP_KEY = "MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS"
CONFIG_DIR = Path(__file__).parent
DEFAULT_CONFIG = "Panoptic-Cascade-Mask-R-CNN.yaml"

__all__ = [
    "class_weights_of",
    "freeze_batch_norm",
    "load_config",
    "modeling",
    "panoptic_cascade_mask_r_cnn",
    "panoptic_cascade_mask_r_cnn_from_checkpoint",
]


def load_config(model_config: str | Path = DEFAULT_CONFIG, overrides: Sequence[Any] = ()) -> CfgNode:
    """Return detectron2's config tree with our keys, a model YAML and KEY VALUE overrides merged in.

    Args:
        model_config: name of a YAML beside this module, or a path.
        overrides: KEY, VALUE, KEY, VALUE, ... of detectron2's tree.

    Raises:
        UserError: for a missing file, an unknown key or an impossible value.
    """
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.USE_DROPLOSS = False
    cfg.MODEL.ROI_HEADS.DROPLOSS_IOU_THRESH = DROP_LOSS_IOU
    cfg.MODEL.ROI_HEADS.THINGS_TOGETHER = False
    cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS = []
    cfg.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION = 0.0
    cfg.MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST = False
    cfg.MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS = False
    cfg.MODEL.VIT = CfgNode({"NAME": "dinov2_vitb14", "FROZEN": True, "GRADIENT_CHECKPOINTING": False})
    path = CONFIG_DIR / model_config
    if not path.is_file() and Path(model_config).is_file():
        path = Path(model_config)
    if not path.is_file():
        names = ", ".join(sorted(found.name for found in CONFIG_DIR.glob("*.yaml")))
        raise UserError(f"{model_config}: no such model config; give a path or one of {names}")
    try:
        cfg.merge_from_file(str(path))
        cfg.merge_from_list(list(overrides))
    except (KeyError, AssertionError, ValueError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise UserError(f"{path.name} or model overrides: {reason}; use detectron2's config keys") from error
    return cfg


def panoptic_cascade_mask_r_cnn(
    num_clusters_things: int,
    num_clusters_stuffs: int,
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    model_config: str | Path = DEFAULT_CONFIG,
    model_overrides: Sequence[Any] = (),
    backbone_checkpoint: str | Path | None = None,
    class_weights: Sequence[float] | None = None,
    use_drop_loss: bool = False,
    drop_loss_iou_threshold: float = DROP_LOSS_IOU,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Build the network (Kirillov et al. 2019; Cai and Vasconcelos 2018; Hahn et al., CUPS, CVPR 2025).

    Args:
        num_clusters_things: T, thing pseudo-classes.
        num_clusters_stuffs: S + 1, stuff pseudo-classes and the generic thing channel (channel 0).
        confidence_threshold: lowest score of a detection, and of an instance in the panoptic map.
        model_config: YAML in `cups/model/`, or a path.
        model_overrides: KEY VALUE pairs of detectron2's config.
        backbone_checkpoint: self-supervised weights of the trunk (.pkl or .pth); random weights without.
        class_weights: (S + 1,) weights of the semantic loss, index 0 the generic thing class.
        use_drop_loss, drop_loss_iou_threshold: DropLoss of the cascade heads.
        device: where the network is built.

    Returns:
        Module in training mode. Training: inputs of `to_detectron2` -> named losses. Evaluation: `[{"image":
        (3, H, W) float RGB 0-1, "height", "width"}]` -> `[{"sem_seg", "instances", "panoptic_seg"}]`.
    """
    cfg = load_config(model_config, model_overrides)
    cfg.MODEL.DEVICE = str(device)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_clusters_things
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_clusters_stuffs
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = confidence_threshold
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = confidence_threshold
    cfg.MODEL.ROI_HEADS.USE_DROPLOSS = use_drop_loss
    cfg.MODEL.ROI_HEADS.DROPLOSS_IOU_THRESH = drop_loss_iou_threshold
    cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS = [] if class_weights is None else [float(w) for w in class_weights]
    _choose_norm(cfg, torch.device(device))
    model = build_model(cfg)
    if backbone_checkpoint is not None:
        load_backbone(model, Path(backbone_checkpoint))
    return model


def load_backbone(model: nn.Module, path: Path) -> None:
    """Initialise the trunk from self-supervised weights: a ResNet's, or a transformer's by official names.

    Raises:
        UserError: a missing file, or weights of another network.
    """
    if isinstance(model.backbone, SimpleFeaturePyramid):
        model.backbone.extractor.load(path)
    else:
        load_trunk(model, path)


def _choose_norm(cfg: CfgNode, device: torch.device) -> None:
    """Synchronised BatchNorm exists on CUDA between processes only; the names of its weights are BN's."""
    synchronised = device.type == "cuda" and dist.is_available() and dist.is_initialized()
    if not synchronised:
        for node in (cfg.MODEL.RESNETS, cfg.MODEL.FPN):
            node.NORM = "BN" if node.NORM == "SyncBN" else node.NORM


def panoptic_cascade_mask_r_cnn_from_checkpoint(
    path: str | Path,
    device: torch.device | str = "cpu",
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    prefer_teacher: bool = False,
) -> tuple[nn.Module, int, int]:
    """Open a published CUPS checkpoint or one of ours.

    The class counts come from the weights, the architecture from `hyper_parameters["model"]`
    (`model_config`, `model_overrides`) where our trainer stored it, else it is the published one. The
    `class_weights` there go on in the semantic loss, should the network be trained further.

    Args:
        prefer_teacher: of a self-training checkpoint, take the averaged teacher, not the student.

    Returns:
        (network in evaluation mode, T things, S stuffs without the generic thing channel).

    Raises:
        UserError: if the file is not such a checkpoint.
    """
    model, pseudo = network_of(load_checkpoint(path, prefer_teacher), device, confidence_threshold)
    return model, pseudo.things, pseudo.stuffs


def network_of(
    checkpoint: Checkpoint, device: torch.device | str, confidence_threshold: float
) -> tuple[nn.Module, PseudoClasses]:
    """Build the network that a checkpoint holds, see `panoptic_cascade_mask_r_cnn_from_checkpoint`."""
    things, stuffs = class_counts(checkpoint.state, checkpoint.path)
    stored = checkpoint.hyper_parameters.get("model")
    stored = stored if isinstance(stored, dict) else {}
    model = panoptic_cascade_mask_r_cnn(
        things,
        stuffs + 1,
        confidence_threshold,
        model_config=stored.get("model_config", DEFAULT_CONFIG),
        model_overrides=stored.get("model_overrides", ()),
        class_weights=_checked_weights(stored.get("class_weights"), stuffs + 1, checkpoint.path),
        device=device,
    )
    load_into(model, checkpoint)
    return model.eval(), PseudoClasses(things, stuffs)


def set_snap(model: nn.Module, snap_to_regions: bool | None) -> None:
    """Switch whether stuff follows the image's edges, in place; None leaves it as it was trained."""
    if snap_to_regions is not None:
        model.combine_snap_to_regions = snap_to_regions  # type: ignore[assignment]


def _checked_weights(weights: Any, channels: int, path: Path) -> list[float] | None:
    """Return the class weights that a checkpoint holds, None where it holds none.

    Raises:
        UserError: no list of a number above 0 for each channel.
    """
    if weights is None:
        return None
    numbers = isinstance(weights, list) and all(isinstance(weight, float) for weight in weights)
    if not numbers or len(weights) != channels or not all(0 < weight < float("inf") for weight in weights):
        raise UserError(f"{path}: class weights that fit no {channels} channels; train Stage 2 again")
    return list(weights)


def class_weights_of(model: nn.Module) -> list[float] | None:
    """Return the weights (S+1,) of a network's semantic loss, "some thing" first; None where it has none."""
    weights = getattr(getattr(model, "sem_seg_head", None), "class_weights", None)
    return None if weights is None else [float(weight) for weight in weights]


def freeze_batch_norm(model: nn.Module) -> nn.Module:
    """Replace the BatchNorm layers by constant ones, in place; weights keep their names (counters go)."""
    return FrozenBatchNorm2d.convert_frozen_batchnorm(model)
