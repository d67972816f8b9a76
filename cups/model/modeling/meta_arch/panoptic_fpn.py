"""Panoptic FPN whose merge scales with the image and whose losses need no outer bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.panoptic_fpn import PanopticFPN
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from cups.model.modeling.meta_arch.lean import decide_in_bands, decide_in_regions, mask_crops, pyramid
from cups.model.modeling.meta_arch.merge import agreed_scores, decide_semantic, merge_crops, merge_panoptic
from cups.model.modeling.meta_arch.snap import regions_ahead, regions_at, snap_to_regions

RANGE_TOLERANCE = 0.01
"""How far resampling may overshoot the image range 0-1."""


def finite_log(probabilities: Tensor) -> Tensor:
    """Return finite logarithms of probabilities, 0 included: logits whose softmax they are."""
    return probabilities.float().clamp(min=torch.finfo(torch.float32).tiny).log()


@META_ARCH_REGISTRY.register()
class CustomPanopticFPN(PanopticFPN):
    """Trunk, semantic head, RPN and region heads, and their panoptic merge.

    `combine_stuff_area_fraction` makes the smallest stuff area a share of the image (4096 px of 1024 x 2048),
    so that the result does not depend on the resolution; 0 falls back to `combine_stuff_area_thresh` pixels.
    `combine_things_first` is for many stuff pseudo-classes, see `decide_semantic`. `combine_snap_to_regions`
    makes the semantic output follow the edges of the image, see `snap_to_regions`.
    `combine_semantic_weight` is that of the semantic head in an instance's score, see `agreed_scores`.
    """

    @configurable
    def __init__(
        self,
        *,
        combine_stuff_area_fraction: float = 0.0,
        combine_things_first: bool = False,
        combine_snap_to_regions: bool = False,
        combine_semantic_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.combine_stuff_area_fraction = combine_stuff_area_fraction
        self.combine_things_first = combine_things_first
        self.combine_snap_to_regions = combine_snap_to_regions
        self.combine_semantic_weight = combine_semantic_weight

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Translate the config (detectron2's protocol)."""
        arguments = super().from_config(cfg)
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        arguments["combine_stuff_area_fraction"] = combine.STUFF_AREA_FRACTION
        arguments["combine_things_first"] = combine.THINGS_FIRST
        arguments["combine_snap_to_regions"] = combine.SNAP_TO_REGIONS
        arguments["combine_semantic_weight"] = combine.SEMANTIC_WEIGHT
        return arguments

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return named losses in training, one dict of outputs per image otherwise.

        Args:
            batched_inputs: `image` (3, H, W) float RGB 0-1; in training also `sem_seg` (H, W) int64 and
                `instances` (`gt_boxes`, `gt_classes`, `gt_masks`); otherwise optional `height` and `width`
                of the output.

        Returns:
            Losses, or per image `sem_seg` logits (S+1, H, W), `instances` and `panoptic_seg` (map, segments).
        """
        if not self.training:
            return self.inference(batched_inputs)
        # detectron2's losses write statistics to a storage that must be open; nothing reads it here.
        with EventStorage():
            return super().forward(batched_inputs)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise, pad at the bottom and right to a multiple of 32, and batch the images.

        Raises:
            ValueError: if values lie outside 0-1, the sign of 8-bit values or of normalised images.
        """
        spans = torch.stack([torch.stack(item["image"].aminmax()) for item in batched_inputs])
        for low, high in spans.tolist():  # one wait for a GPU, not two for each image
            if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
                raise ValueError(f"images must be RGB in 0-1; this one spans {low:.3g} to {high:.3g}")
        return super().preprocess_image(batched_inputs)

    def inference(self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = True) -> Any:
        """Predict; without `do_postprocess` return (instances, semantic logits) at network resolution."""
        batched_inputs = self.with_regions(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        semantics, _ = self.sem_seg_head(features, None)
        proposals, _ = self.proposal_generator(images, features, None)
        detections, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return detections, semantics
        return [
            self._postprocess_image(logits, found, item, size)
            for logits, found, item, size in zip(
                semantics, detections, batched_inputs, images.image_sizes, strict=True
            )
        ]

    @torch.no_grad()
    def find_objects(self, batched_inputs: list[dict[str, Any]], confidence: float) -> list[Instances]:
        """Return the instances of each image that score above `confidence`, as `inference` finds them.

        Only what they need is computed: neither semantics nor the merge, and no mask of a lesser detection.
        A lesser detection suppresses none that scores higher, so leaving it out changes nothing.

        Args:
            batched_inputs: `image` (3, H, W) float RGB 0-1.
            confidence: 0-1.

        Returns:
            Per image `pred_boxes`, `scores`, `pred_classes` and `pred_masks` (N, H, W) bool.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        found = self.roi_heads.detect_boxes(features, proposals)
        found = [detections[detections.scores > confidence] for detections in found]
        found = self.roi_heads.forward_with_given_boxes(features, found)
        sizes = images.image_sizes
        return [detector_postprocess(item, *size) for item, size in zip(found, sizes, strict=True)]

    @torch.no_grad()
    def predict_maps(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict the maps that an evaluation reads, in a fraction of the memory of `forward`.

        Args:
            batched_inputs: `image` (3, H, W) float RGB 0-1; the maps have its size.

        Returns:
            Per image `semantic` (H, W) int64, the largest channel of `sem_seg`, and `panoptic_seg`; the same
            bits as `forward` gives.
        """
        batched_inputs = self.with_regions(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = pyramid(self.backbone, images.tensor)
        logits = self.sem_seg_head.layers(features)
        proposals, _ = self.proposal_generator(images, features, None)
        detections, _ = self.roi_heads(images, features, proposals, None)
        del features, proposals
        return [
            self._maps_of_image(logits_of_one, found, size, item)
            for logits_of_one, found, size, item in zip(
                logits, detections, images.image_sizes, batched_inputs, strict=True
            )
        ]

    def _maps_of_image(
        self, logits: Tensor, found: Instances, size: tuple[int, int], item: dict[str, Any]
    ) -> dict[str, Any]:
        def decide(probabilities: Tensor) -> Tensor:
            return decide_semantic(probabilities, self.combine_things_first)

        given = logits, self.sem_seg_head.common_stride, size
        if self.combine_snap_to_regions:
            regions = regions_at(item["regions"].result(), size, logits.device)
            semantic, decided, things = decide_in_regions(*given, regions, decide, finite_log)
        else:
            semantic, decided, things = decide_in_bands(*given, decide)
        kept, crop_of = mask_crops(found, size)
        scores = agreed_scores(kept.scores.tolist(), crop_of, things, self.combine_semantic_weight)
        classes = kept.pred_classes.tolist()
        panoptic = merge_crops(scores, classes, crop_of, decided, **self.merge_rules(size))
        return {"semantic": semantic, "panoptic_seg": panoptic}

    def _postprocess_image(
        self, logits: Tensor, detections: Instances, item: dict[str, Any], size: tuple[int, int]
    ) -> dict[str, Any]:
        height, width = item.get("height", size[0]), item.get("width", size[1])
        logits = sem_seg_postprocess(logits, size, height, width)
        instances = detector_postprocess(detections, height, width)
        logits = self.follow_image_logits(logits, item)
        panoptic = self.merge(instances, logits.float().softmax(dim=0))
        return {"sem_seg": logits, "instances": instances, "panoptic_seg": panoptic}

    def with_regions(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the inputs; where stuff follows edges, `regions` of each image are being found meanwhile.

        Inputs that have them already are returned as they are.
        """
        if not self.combine_snap_to_regions or all("regions" in item for item in batched_inputs):
            return list(batched_inputs)
        begun = regions_ahead([item["image"] for item in batched_inputs])
        return [{**item, "regions": found} for item, found in zip(batched_inputs, begun, strict=True)]

    @torch.no_grad()
    def follow_image(self, probabilities: Tensor, item: dict[str, Any]) -> Tensor:
        """Return semantic probabilities (S+1, H, W) as they are merged and shown: see `snap_to_regions`.

        Args:
            item: the image's, of `with_regions`.
        """
        if not self.combine_snap_to_regions:
            return probabilities
        return snap_to_regions(probabilities, item["regions"].result())

    def follow_image_logits(self, logits: Tensor, item: dict[str, Any]) -> Tensor:
        """Return semantic logits (S+1, H, W) whose softmax `follow_image` gives."""
        if not self.combine_snap_to_regions:
            return logits
        return finite_log(self.follow_image(logits.float().softmax(dim=0), item))

    @torch.no_grad()
    def merge(
        self, instances: Instances, probabilities: Tensor, score_threshold: float = 0.0
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Merge detections and semantic probabilities (S+1, H, W); see `merge_panoptic`.

        Args:
            score_threshold: of instances, where it is higher than the network's own.
        """
        size = int(probabilities.shape[-2]), int(probabilities.shape[-1])
        return merge_panoptic(
            instances,
            decide_semantic(probabilities, self.combine_things_first),
            thing_probability=probabilities[0],
            semantic_weight=self.combine_semantic_weight,
            **self.merge_rules(size, score_threshold),
        )

    def merge_rules(self, size: tuple[int, int], score_threshold: float = 0.0) -> dict[str, float]:
        """Return the limits of `merge_crops` for a map of (H, W); `score_threshold` as in `merge`."""
        limit = self.combine_stuff_area_fraction * size[0] * size[1]
        return {
            "overlap_threshold": self.combine_overlap_thresh,
            "stuff_area_limit": limit or self.combine_stuff_area_thresh,
            "score_threshold": max(score_threshold, self.combine_instances_score_thresh),
        }
