"""Cascade region heads (Cai and Vasconcelos, CVPR 2018) with DropLoss and masks that are never copied."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cups.model.modeling.roi_heads.fast_rcnn import CustomFastRCNNOutputLayers, drop_weights
from cups.model.modeling.roi_heads.labelling import (
    Truth,
    assign,
    clip_regions,
    objects_of,
    sampled_regions,
)
from cups.model.modeling.roi_heads.pooler import PreciseROIAlign, SparseROIPooler
from cups.model.modeling.sampling import draws_together
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
        """Return (sampled proposals, losses) in training, (detections, {}) otherwise.

        Regions of all images are matched together, see `labelling`.
        """
        if targets is None:
            detections: tuple[list[Instances], dict[str, Tensor]] = super().forward(
                images, features, proposals
            )
            return detections
        truth = Truth.of(targets)
        proposals = self._label_and_sample(proposals, targets, truth)
        losses = self._forward_box(features, proposals, truth)
        return proposals, losses | self._forward_mask(features, proposals)

    @torch.no_grad()
    def _label_and_sample(
        self, proposals: list[Instances], targets: list[Instances], truth: Truth
    ) -> list[Instances]:
        """Return the regions that each image learns from: boxes, classes, and what they matched."""
        boxes = [item.proposal_boxes.tensor for item in proposals]
        if self.proposal_append_gt:
            boxes = [
                torch.cat(pair) for pair in zip(boxes, (t.gt_boxes.tensor for t in targets), strict=True)
            ]
        padded = pad_sequence(boxes, batch_first=True)
        best, classes = assign(padded, truth, self.proposal_matcher, self.num_classes)
        lengths = [len(item) for item in boxes]
        chosen = sampled_regions(
            classes,
            lengths,
            self.batch_size_per_image,
            self.positive_fraction,
            self.num_classes,
            together=draws_together(classes),
        )
        found = []
        for number, (target, rows) in enumerate(zip(targets, chosen, strict=True)):
            matched = best[number, rows]
            item = Instances(target.image_size, proposal_boxes=Boxes(padded[number, rows]))
            item.gt_classes = classes[number, rows]
            item.gt_boxes = Boxes(truth.boxes[number, matched])
            if target.has("gt_masks"):
                masks = target.gt_masks
                item.gt_masks = (
                    SharedMasks(masks.tensor, matched) if isinstance(masks, BitMasks) else masks[matched]
                )
            found.append(item)
        return found

    @torch.no_grad()
    def _next_regions(
        self, boxes: list[Tensor], sizes: list[tuple[int, int]], stage: int, truth: Truth
    ) -> list[Instances]:
        """Return what a stage after the first learns from: the boxes of the stage before it, labelled."""
        found = clip_regions(boxes, sizes)
        padded = pad_sequence([item.proposal_boxes.tensor for item in found], batch_first=True)
        best, classes = assign(padded, truth, self.proposal_matchers[stage], self.num_classes)
        matched = truth.boxes.gather(1, best[..., None].expand(-1, -1, 4))
        for item, kinds, boxes_of_objects in zip(found, classes, matched, strict=True):
            item.gt_classes = kinds[: len(item)]
            item.gt_boxes = Boxes(boxes_of_objects[: len(item)])
        return found

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
        truth: Truth | None = None,
    ) -> Any:
        maps = [features[name] for name in self.box_in_features]
        sizes = [item.image_size for item in proposals]
        boxes: list[Tensor] = []
        losses: dict[str, Tensor] = {}
        scores: list[tuple[Tensor, ...]] = []
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0 and truth is not None:
                proposals = self._next_regions(boxes, sizes, stage, truth)
            elif stage > 0:
                proposals = self._create_proposals_from_boxes(boxes, sizes)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            if truth is None:
                scores.append(predictor.predict_probs(predictions, proposals))
            else:
                weights = drop_weights(boxes, truth, self.drop_loss_iou) if self.use_drop_loss else None
                stage_losses = predictor.losses(predictions, proposals, weights)
                losses |= {f"{name}_stage{stage}": value for name, value in stage_losses.items()}
        if truth is not None:
            return losses
        return self._detect(boxes, scores, sizes)

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        if not (self.training and self.mask_on):
            return super()._forward_mask(features, instances)
        maps = [features[name] for name in self.mask_in_features]
        found = objects_of(instances, self.num_classes)
        return self.mask_head(self.mask_pooler(maps, [item.proposal_boxes for item in found]), found)

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
