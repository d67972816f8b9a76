"""Builders of the Panoptic Cascade Mask R-CNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from cups.defaults import CONFIDENCE_THRESHOLD, DROP_LOSS_IOU
from cups.errors import UserError
from cups.io.checkpoint import (
    Checkpoint,
    class_counts,
    fitting_state,
    load_checkpoint,
    load_into,
)
from cups.io.trunk import load_trunk
from cups.model import modeling
from cups.model.architecture import MOST_CLASSES
from cups.model.backbone_dinov2_vit import SimpleFeaturePyramid
from cups.model.network_config import (
    CONFIG_DIR,
    DEFAULT_CONFIG,
    config_of,
    is_shipped,
    load_config,
    stored_architecture,
)
from cups.structures import PseudoClasses

FEW_CLASSES = 1000
"""With a shipped architecture and so few classes no network is larger than the published one's kind."""
UNBUILDABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What detectron2 and torch raise where the parts of a network do not fit each other."""

__all__ = [
    "CONFIG_DIR",
    "DEFAULT_CONFIG",
    "class_weights_of",
    "freeze_batch_norm",
    "load_config",
    "modeling",
    "panoptic_cascade_mask_r_cnn",
    "panoptic_cascade_mask_r_cnn_from_checkpoint",
]


def panoptic_cascade_mask_r_cnn(
    num_clusters_things: int,
    num_clusters_stuffs: int,
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    model_config: str | Path = DEFAULT_CONFIG,
    model_overrides: Sequence[Any] = (),
    architecture: Mapping[str, Any] | None = None,
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
        architecture: what a checkpoint holds of both (`cups.model.architecture`), instead of them.
        backbone_checkpoint: self-supervised weights of the trunk (.pkl or .pth); random weights without.
        class_weights: (S + 1,) weights of the semantic loss, index 0 the generic thing class.
        use_drop_loss, drop_loss_iou_threshold: DropLoss of the cascade heads.
        device: where the network is built.

    Returns:
        Module in training mode. Training: inputs of `to_detectron2` -> named losses. Evaluation: `[{"image":
        (3, H, W) float RGB 0-1, "height", "width"}]` -> `[{"sem_seg", "instances", "panoptic_seg"}]`.
    """
    cfg = load_config(model_config, model_overrides) if architecture is None else config_of(architecture)
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
    model_config: str | Path | None = None,
) -> tuple[nn.Module, int, int]:
    """Open a published CUPS checkpoint or one of ours.

    The class counts come from the weights, the architecture from `hyper_parameters["model"]` where our
    trainer stored it, else it is the published one. The `class_weights` there go on in the semantic loss,
    should the network be trained further.

    Args:
        prefer_teacher: of a self-training checkpoint, take the averaged teacher, not the student.
        model_config: see `stored_architecture`.

    Returns:
        (network in evaluation mode, T things, S stuffs without the generic thing channel).

    Raises:
        UserError: if the file is not such a checkpoint.
    """
    checkpoint = load_checkpoint(path, prefer_teacher)
    model, pseudo = network_of(checkpoint, device, confidence_threshold, model_config)
    return model, pseudo.things, pseudo.stuffs


def network_of(
    checkpoint: Checkpoint,
    device: torch.device | str,
    confidence_threshold: float,
    model_config: str | Path | None = None,
) -> tuple[nn.Module, PseudoClasses]:
    """Build the network that a checkpoint holds, see `panoptic_cascade_mask_r_cnn_from_checkpoint`.

    Nothing of its size is allocated before the whole network was found to have the sizes of the weights.
    """
    things, stuffs = class_counts(checkpoint.state, checkpoint.path)
    if not 0 < things <= MOST_CLASSES or not 0 < stuffs <= MOST_CLASSES:
        raise UserError(
            f"{checkpoint.path}: has {things} thing and {stuffs} stuff pseudo-classes; a network has 1 to "
            f"{MOST_CLASSES} of each; give another checkpoint"
        )
    architecture = stored_architecture(checkpoint, model_config)
    weights = checkpoint.section("model").get("class_weights")
    weights = _checked_weights(weights, stuffs + 1, checkpoint.path)
    if max(things, stuffs) > FEW_CLASSES or not is_shipped(architecture):
        _require_fit(architecture, PseudoClasses(things, stuffs), checkpoint)
    model = panoptic_cascade_mask_r_cnn(
        things,
        stuffs + 1,
        confidence_threshold,
        architecture=architecture,
        class_weights=weights,
        device=device,
    )
    load_into(model, checkpoint)
    return model.eval(), PseudoClasses(things, stuffs)


def _require_fit(architecture: Mapping[str, Any], pseudo: PseudoClasses, checkpoint: Checkpoint) -> None:
    """Refuse weights of other sizes than the network of an architecture, which is built without storage.

    Raises:
        UserError: they differ, or its parts do not fit each other.
    """
    try:
        with torch.device("meta"):
            network = panoptic_cascade_mask_r_cnn(
                pseudo.things, pseudo.stuffs + 1, architecture=architecture, device="meta"
            )
    except UNBUILDABLE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{checkpoint.path}: its architecture cannot be built ({reason}); get the checkpoint again"
        ) from None
    fitting_state(network, checkpoint)


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
