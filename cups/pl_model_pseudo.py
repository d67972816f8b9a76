"""Stage 2: training the panoptic network on pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.ops import box_iou

from cups.augmentation import BatchAugmentation
from cups.metrics import PanopticQualitySemanticMatching
from cups.structures import Sample, ThingStuffSplit, boxes_from_masks
from cups.training.module import PanopticModule
from cups.training.optimizer import OptimizerSettings


@dataclass(frozen=True)
class SelfPaste:
    """From step `after` on, pasted objects are the network's own finds (CUPS, "self-enhanced copy-paste").

    Attributes:
        after: optimisation step; before it, objects of the same batch are pasted.
        confidence: score (0-1) that a find must exceed.
    """

    after: int
    confidence: float


def new_objects(found: Any, sample: Sample) -> Sample:
    """Return `sample` with the network's own finds as instances, those on no pseudo-labelled object.

    Args:
        found: instances (`pred_masks`, `pred_classes`) that the network found in `sample.image`.
        sample: the clean training sample.
    """
    masks = found.pred_masks.to(sample.masks.device)
    keep = masks.flatten(1).any(dim=1)
    if len(sample.masks) and len(masks):
        overlap = box_iou(boxes_from_masks(masks), boxes_from_masks(sample.masks)).amax(dim=1)
        keep &= overlap < 0.5
    return sample.replace(masks=masks[keep], classes=found.pred_classes.to(masks.device)[keep])


class PseudoLabelModule(PanopticModule):
    """Lightning module of Stage 2.

    Args:
        model, split, optimizer, metric, seed, description: see `PanopticModule`.
        augmentation: what happens to a batch on the training device.
        self_paste: see `SelfPaste`.
    """

    def __init__(
        self,
        model: nn.Module,
        split: ThingStuffSplit,
        optimizer: OptimizerSettings,
        augmentation: BatchAugmentation,
        self_paste: SelfPaste,
        metric: PanopticQualitySemanticMatching | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, split, optimizer, metric, seed, description)
        self.batch_augmentation = augmentation
        self.self_paste = self_paste
        self._sources: list[Sample] | None = None

    def augment(self, batch: Sequence[Sample], micro_batch: int) -> list[Sample]:
        """Return the batch as the network is shown it; the input stays untouched."""
        own = self.global_step >= self.self_paste.after
        sources = (self._sources or ()) if own else batch
        return self.batch_augmentation(batch, sources, *self.generators(micro_batch))

    def training_step(self, batch: list[Sample], batch_idx: int) -> Tensor:
        micro_batch = self.micro_batch(batch_idx)
        samples = self.augment(batch, micro_batch)
        loss = self.learn(samples, micro_batch)
        self.media |= {"sample": samples[0]}
        self._remember_sources(batch)
        return loss

    def _remember_sources(self, batch: list[Sample]) -> None:
        """Keep this batch's confident finds for the next step's pasting, when that step will use them."""
        paste = self.self_paste
        if self.batch_augmentation.copy_paste is None or self.global_step + 1 < paste.after:
            return
        model: Any = self.model.eval()
        finds = model.find_objects([{"image": sample.image} for sample in batch], paste.confidence)
        model.train()
        self._sources = [new_objects(found, sample) for found, sample in zip(finds, batch, strict=True)]
