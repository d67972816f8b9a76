"""Cascade region heads (Cai and Vasconcelos, CVPR 2018) with DropLoss and masks that are never copied."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import BitMasks, ImageList, Instances
from torch import Tensor, nn

from cups.model.modeling.roi_heads.fast_rcnn import CustomFastRCNNOutputLayers, drop_weights
from cups.model.modeling.roi_heads.pooler import PreciseROIAlign, SparseROIPooler
from cups.ops.precision import widen


class SharedMasks:
    """A selection, with repeats, of an image's masks that copies no pixel.

    Sampling pairs each of up to 512 proposals with the mask of its object; as full-size bit masks that is a
    gigabyte per 1024 x 2048 image, of which only crops are used.

    Args:
        masks: (N, H, W) bool.
        indices: (M,) int64, the mask of each element; by default each mask once.
    """

    def __init__(self, masks: Tensor, indices: Tensor | None = None) -> None:
        self.masks = masks
        self.indices = torch.arange(len(masks), device=masks.device) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, selection: Tensor) -> SharedMasks:
        return SharedMasks(self.masks, self.indices[selection])

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Return (M, mask_size, mask_size) bool: each mask inside its box, (M, 4) XYXY pixels."""
        boxes = widen(boxes)
        rois = torch.cat((self.indices[:, None].to(boxes), boxes), dim=1)
        align = PreciseROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        return align(self.masks[:, None].to(boxes.dtype), rois).squeeze(1) >= 0.5


@ROI_HEADS_REGISTRY.register()
class CustomCascadeROIHeads(CascadeROIHeads):
    """Three box stages of rising IoU and one mask head; DropLoss acts on each stage's classification.

    `things_together` is for many thing pseudo-classes, which divide the probability of an object among them:
    a detection then scores the probability of all of them, and suppresses others of any class.
    """

    @configurable
    def __init__(
        self,
        *,
        use_drop_loss: bool = False,
        drop_loss_iou: float = 0.4,
        things_together: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.things_together = things_together
        self.use_drop_loss = use_drop_loss
        self.drop_loss_iou = drop_loss_iou

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate the config (detectron2's protocol)."""
        arguments = super().from_config(cfg, input_shape)
        arguments["use_drop_loss"] = cfg.MODEL.ROI_HEADS.USE_DROPLOSS
        arguments["drop_loss_iou"] = cfg.MODEL.ROI_HEADS.DROPLOSS_IOU_THRESH
        arguments["things_together"] = cfg.MODEL.ROI_HEADS.THINGS_TOGETHER
        strides = [input_shape[name].stride for name in cfg.MODEL.ROI_HEADS.IN_FEATURES]
        arguments["box_pooler"] = _pooler(cfg.MODEL.ROI_BOX_HEAD, strides)
        arguments["mask_pooler"] = _pooler(cfg.MODEL.ROI_MASK_HEAD, strides) if cfg.MODEL.MASK_ON else None
        arguments["box_predictors"] = nn.ModuleList(
            CustomFastRCNNOutputLayers(cfg, head.output_shape, box2box_transform=predictor.box2box_transform)
            for head, predictor in zip(arguments["box_heads"], arguments["box_predictors"], strict=True)
        )
        return arguments

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return (sampled proposals, losses) in training, (detections, {}) otherwise."""
        if targets is not None:
            targets = [_share_masks(target) for target in targets]
        return super().forward(images, features, proposals, targets)

    def detect_boxes(self, features: dict[str, Tensor], proposals: list[Instances]) -> list[Instances]:
        """Return the detections of each image without masks.

        Beside detectron2's fields they have `class_probabilities` (N, T), one for each thing class.
        """
        detections: list[Instances] = self._forward_box(features, proposals)
        return detections

    def _forward_box(
        self,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Any:
        maps = [features[name] for name in self.box_in_features]
        sizes = [item.image_size for item in proposals]
        boxes: list[Tensor] = []
        losses: dict[str, Tensor] = {}
        scores: list[tuple[Tensor, ...]] = []
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0:
                proposals = self._create_proposals_from_boxes(boxes, sizes)
                if targets is not None:
                    proposals = self._match_and_label_boxes(proposals, stage, targets)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            if targets is None:
                scores.append(predictor.predict_probs(predictions, proposals))
            else:
                weights = self._drop_weights(boxes, targets)
                stage_losses = predictor.losses(predictions, proposals, weights)
                losses |= {f"{name}_stage{stage}": value for name, value in stage_losses.items()}
        if targets is not None:
            return losses
        return self._detect(boxes, scores, sizes)

    def _drop_weights(self, boxes: list[Tensor], targets: list[Instances]) -> Tensor | None:
        if not self.use_drop_loss:
            return None
        return drop_weights(boxes, [target.gt_boxes for target in targets], self.drop_loss_iou)

    def _detect(
        self, boxes: list[Tensor], scores: list[tuple[Tensor, ...]], sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        # Class probabilities are averaged over the stages; boxes are those of the last one.
        averaged = [sum(stages) * (1.0 / len(scores)) for stages in zip(*scores, strict=True)]
        last = self.box_predictor[-1]
        classes = averaged
        if self.things_together:
            averaged = [torch.stack((1 - p[:, -1], p[:, -1]), dim=1) for p in averaged]
        detections, kept = fast_rcnn_inference(
            boxes, averaged, sizes, last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image
        )
        for found, probabilities, indices in zip(detections, classes, kept, strict=True):
            found.class_probabilities = probabilities[indices, :-1]
            if self.things_together:
                found.pred_classes = found.class_probabilities.argmax(dim=1)
        return detections


def _pooler(node: Any, strides: list[int]) -> SparseROIPooler:
    return SparseROIPooler(
        output_size=node.POOLER_RESOLUTION,
        scales=tuple(1.0 / stride for stride in strides),
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )


def _share_masks(target: Instances) -> Instances:
    if not target.has("gt_masks") or not isinstance(target.gt_masks, BitMasks):
        return target
    shared = Instances(target.image_size, **target.get_fields())
    shared.gt_masks = SharedMasks(target.gt_masks.tensor)
    return shared
