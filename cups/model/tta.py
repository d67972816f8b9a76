"""Test-time augmentation of the panoptic network: several sizes and mirror images, one prediction.

The scheme is Detectron2's for Mask R-CNN (`GeneralizedRCNNWithTTA`), carried to the panoptic network as in
CUPS (Hahn et al., CVPR 2025): detections of all views are pooled and suppressed, the boxes that survive get
a mask in every view, masks and semantic probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from cups.detectron2_compat import prepare
from cups.ops.resize import resize_image, scaled_size

prepare()  # before any detectron2 import

from detectron2.modeling.postprocessing import detector_postprocess  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from cups.model.modeling.meta_arch.lean import rows_within  # noqa: E402
from cups.model.modeling.meta_arch.snap import regions_at  # noqa: E402

Size = tuple[int, int]
STRIP_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}
"""Logits whose probabilities are computed at a time, by kind of device."""


@dataclass(frozen=True)
class Views:
    """In which sizes an image is seen.

    Attributes:
        scales: sizes of the views, relative to the base size.
        flip: whether every view is seen mirrored as well.

    Raises:
        ValueError: no scales, or scales of 0 or less.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {self.scales} must be one or more numbers above 0")

    @property
    def passes(self) -> float:
        """How many times the pixels of the base size the network sees."""
        return (2 if self.flip else 1) * sum(scale**2 for scale in self.scales)


class _View(NamedTuple):
    """One size of the image; of the batch, element 0 is the image itself and element 1 its mirror image."""

    size: Size
    features: dict[str, Tensor]
    detections: list[Instances]


class PanopticFPNWithTTA(nn.Module):
    """The network over several views; takes and returns what the network does in evaluation.

    Args:
        model: `CustomPanopticFPN`; its own detection threshold (below `score_threshold`, or nothing is
            pooled) holds in every view. It is put in evaluation mode, where this wrapper always is.
        views: sizes in which each image is seen.
        score_threshold: pooled detections must exceed it.
        base_size: short side in pixels that scale 1 stands for; None is the image's own.

    `sem_seg` of its outputs holds probabilities (S+1, H, W), not logits. Nothing leaves the device of the
    network, and each view passes the trunk once, for boxes and masks together.
    """

    def __init__(
        self,
        model: nn.Module,
        views: Views,
        score_threshold: float,
        base_size: int | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.views = views
        self.score_threshold = score_threshold
        self.base_size = base_size
        self.eval()

    def train(self, mode: bool = True) -> PanopticFPNWithTTA:
        """Stay in evaluation mode, whatever a surrounding module asks for."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, batched_inputs: Sequence[dict[str, Any]], generator: torch.Generator | None = None
    ) -> list[dict[str, Any]]:
        """Predict each image.

        Args:
            batched_inputs: `image` (3, H, W) float RGB 0-1, any size; optional `height`, `width` of the
                output.
            generator: of a CPU; draws the class of each object by its probabilities. None takes the most
                probable.

        Returns:
            Per image `sem_seg` probabilities (S+1, height, width), `instances` and `panoptic_seg`. Where
            stuff follows edges also `regions`: ids (height, width) of pixels with the same probabilities, and
            their number.
        """
        return [self._predict(item, generator) for item in self.model.with_regions(batched_inputs)]

    def _predict(self, item: dict[str, Any], generator: torch.Generator | None) -> dict[str, Any]:
        image = item["image"].to(self.model.device)
        size = (int(item.get("height", image.shape[-2])), int(item.get("width", image.shape[-1])))
        views, probabilities = [], None
        for scale in self.views.scales:
            view = self._run(resize_image(image, self._view_size(image, scale)))
            views.append(view)
            # In place: a map of a hundred channels is not copied for the mean of one size.
            found = self._probabilities(view, size).div_(len(self.views.scales))
            probabilities = found if probabilities is None else probabilities.add_(found)
        probabilities = self.model.follow_image(probabilities, item)
        instances = self._pool(views, size)
        if generator is not None:
            instances.pred_classes = drawn_classes(instances.class_probabilities, generator)
        instances.pred_masks = self._masks(views, instances)
        instances = detector_postprocess(instances, *size)
        panoptic = self.merge(instances, probabilities)
        output = {"sem_seg": probabilities, "instances": instances, "panoptic_seg": panoptic}
        if "regions" in item:
            output["regions"] = regions_at(item["regions"].result(), size, probabilities.device)
        return output

    def merge(self, instances: Instances, probabilities: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        """Merge as the network does; what both heads agree on has to reach the threshold, too."""
        return self.model.merge(instances, probabilities, self.score_threshold)

    def _view_size(self, image: Tensor, scale: float) -> Size:
        height, width = image.shape[-2:]
        base = self.base_size or min(height, width)
        return scaled_size((height, width), scale * base / min(height, width))

    def _run(self, image: Tensor) -> _View:
        """Pass the image, and its mirror image in the same batch, through everything but the mask head."""
        mirrored = [image.flip(-1)] if self.views.flip else []
        batch = self.model.preprocess_image([{"image": view} for view in (image, *mirrored)])
        features = self.model.backbone(batch.tensor)
        proposals, _ = self.model.proposal_generator(batch, features, None)
        detections = self.model.roi_heads.detect_boxes(features, proposals)
        return _View((image.shape[-2], image.shape[-1]), features, detections)

    def _probabilities(self, view: _View, size: Size) -> Tensor:
        """Return the mean semantic probabilities of a view and its mirror image, (S+1, *size).

        The padding to the network's stride goes first: it lies at the right side of a mirrored image too.
        """
        logits, _ = self.model.sem_seg_head(view.features, None)
        logits = logits[..., : view.size[0], : view.size[1]].float()
        return mean_probabilities(resize_image(logits, size))

    def _pool(self, views: Sequence[_View], size: Size) -> Instances:
        """Return the detections of all views in the output's frame after suppression, as in one view."""
        boxes = torch.cat(
            [
                _change_frame(found.pred_boxes.tensor, view.size, size, mirrored=index == 1)
                for view in views
                for index, found in enumerate(view.detections)
            ]
        )
        found = Instances.cat([_without_boxes(found, size) for view in views for found in view.detections])
        predictor = self.model.roi_heads.box_predictor[-1]
        confident = torch.nonzero(found.scores > self.score_threshold).flatten()
        boxes, found = boxes[confident], found[confident]
        # Suppression keeps the falling order of the scores.
        kinds = found.pred_classes
        if self.model.roi_heads.things_together:
            kinds = torch.zeros_like(kinds)
        kept = batched_nms(boxes.float(), found.scores.float(), kinds, predictor.test_nms_thresh)
        kept = kept[: predictor.test_topk_per_image]
        pooled = found[kept]
        pooled.pred_boxes = Boxes(boxes[kept])
        return pooled

    def _masks(self, views: Sequence[_View], instances: Instances) -> Tensor:
        """Return mean mask probabilities (N, 1, M, M), each relative to its box, over all views."""
        heads = self.model.roi_heads
        masks = []
        for view in views:
            seen = []
            for index in range(len(view.detections)):
                boxes = _change_frame(
                    instances.pred_boxes.tensor, instances.image_size, view.size, mirrored=index == 1
                )
                seen.append(
                    Instances(view.size, pred_boxes=Boxes(boxes), pred_classes=instances.pred_classes)
                )
            found = heads.forward_with_given_boxes(view.features, seen)
            masks += [
                item.pred_masks.flip(-1) if index == 1 else item.pred_masks
                for index, item in enumerate(found)
            ]
        return torch.stack(masks).float().mean(dim=0)


def mean_probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities of an image and, if it is there, its mirror image: their mean, not mirrored.

    Some rows at a time, which a processor's cache holds: twice as fast as all at once.

    Args:
        logits: (1, C, H, W) or (2, C, H, W) float32, the second one mirrored.
    """
    count, channels, height, width = logits.shape
    limit = STRIP_ELEMENTS.get(logits.device.type, STRIP_ELEMENTS["cuda"])
    rows = rows_within(limit, count * channels * width, width)
    mean = logits.new_empty(logits.shape[1:])
    for start in range(0, height, rows):
        found = logits[:, :, start : start + rows].softmax(dim=1)
        mean[:, start : start + rows] = found[0] if count == 1 else (found[0] + found[1].flip(-1)) / 2
    return mean


def _change_frame(boxes: Tensor, source: Size, target: Size, mirrored: bool) -> Tensor:
    """Move boxes (N, 4) XYXY from an image of size `source` (H, W) to one of size `target`."""
    left, top, right, bottom = boxes.unbind(dim=1)
    if mirrored:
        left, right = source[1] - right, source[1] - left
    scale_x, scale_y = target[1] / source[1], target[0] / source[0]
    return torch.stack((left * scale_x, top * scale_y, right * scale_x, bottom * scale_y), dim=1)


def _without_boxes(found: Instances, size: Size) -> Instances:
    kept = {name: found.get(name) for name in ("scores", "pred_classes", "class_probabilities")}
    return Instances(size, **kept)


def drawn_classes(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a class for each row by its shares: (N, T) probabilities, which need not sum to 1 -> (N,) int64.

    Drawn on the CPU: the same on any device.
    """
    shares = probabilities.detach().float().cpu().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.multinomial(shares, 1, generator=generator)[:, 0].to(probabilities.device)
