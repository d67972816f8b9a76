"""Stage 2: training the panoptic network on pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.ops import box_iou

from cups.augmentation import CopyPaste, Photometric, ResolutionJitter
from cups.errors import UserError
from cups.lightning import step_seed
from cups.metrics import PanopticQualitySemanticMatching
from cups.model import panoptic_from_output, to_detectron2
from cups.structures import Sample, ThingStuffSplit, boxes_from_masks

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW or SGD with linear warm-up and an optional cosine decay to zero.

    CUPS starts from a DINO backbone and needs neither: `warmup_steps=0`, `decay="constant"`.
    """

    name: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    warmup_steps: int = 0
    decay: str = "constant"
    steps: int = 4000

    def factor(self, step: int) -> float:
        """Return the learning rate at `step`, relative to `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "constant":
            return warm
        progress = min(1.0, step / max(1, self.steps))
        return warm * 0.5 * (1.0 + float(torch.cos(torch.tensor(progress * torch.pi))))


@dataclass(frozen=True)
class BatchAugmentation:
    """What happens to a batch on the training device, in this order."""

    copy_paste: CopyPaste | None = None
    resolution_jitter: ResolutionJitter | None = None
    photometric: Photometric | None = None
    self_paste_after: int = 500
    """From this step on, pasted objects are the network's own confident finds (CUPS, "self-enhanced")."""
    self_paste_confidence: float = 0.75


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters in two groups: normalisation layers without weight decay, the rest with."""
    norm = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORM_LAYERS)
        for parameter in module.parameters(recurse=False)
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in norm], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in norm], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimiser over `parameter_groups`."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def confident_new_objects(output: Mapping[str, Any], sample: Sample, confidence: float) -> Sample:
    """Return `sample` with the network's own finds as instances: confident, and on no pseudo-labelled object.

    Args:
        output: Detectron2 inference output of `sample.image`.
        sample: the clean training sample.
        confidence: score a find must exceed (0-1).
    """
    found = output["instances"]
    masks = found.pred_masks.to(sample.masks.device) > 0.5
    keep = (found.scores.to(masks.device) > confidence) & masks.flatten(1).any(dim=1)
    if len(sample.masks) and len(masks):
        overlap = box_iou(boxes_from_masks(masks), boxes_from_masks(sample.masks)).amax(dim=1)
        keep &= overlap < 0.5
    return sample.replace(masks=masks[keep], classes=found.pred_classes.to(masks.device)[keep])


class PseudoLabelModule(pl.LightningModule):
    """Lightning module of Stage 2.

    Args:
        model: panoptic network; Detectron2 conventions (losses in training, outputs in evaluation).
        split: the pseudo-classes behind the network's things and stuff.
        optimizer: see `OptimizerSettings`.
        augmentation: see `BatchAugmentation`.
        metric: validation metric over the network's categories, or None.
        seed: seeds the batch augmentation, together with step and rank.
        description: plain containers stored with every checkpoint (config, model settings, provenance).
    """

    def __init__(
        self,
        model: nn.Module,
        split: ThingStuffSplit,
        optimizer: OptimizerSettings,
        augmentation: BatchAugmentation,
        metric: PanopticQualitySemanticMatching | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.split = split
        self.settings = optimizer
        self.batch_augmentation = augmentation
        self.metric = metric
        self.seed = seed
        self.description = dict(description or {})
        self._sources: list[Sample] | None = None
        self.media: dict[str, Any] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.model, self.settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.settings.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def step_seed(self, micro_batch: int) -> int:
        """Return a seed of step, micro-batch and rank: a resumed run repeats what the first would do."""
        return step_seed(self.seed, self.global_step, micro_batch, self.global_rank)

    def augment(self, batch: Sequence[Sample], micro_batch: int) -> list[Sample]:
        """Apply copy-paste, resolution jitter and photometric changes; the input stays untouched."""
        steps = self.batch_augmentation
        generator = torch.Generator().manual_seed(self.step_seed(micro_batch))
        samples = list(batch)
        if steps.copy_paste is not None:
            own = self.global_step >= steps.self_paste_after
            sources = self._sources if own else samples
            if sources:
                samples = steps.copy_paste(samples, sources, generator)
        if steps.resolution_jitter is not None:
            samples = steps.resolution_jitter(samples, generator)
        if steps.photometric is not None:
            samples = [steps.photometric(sample, generator) for sample in samples]
        return samples

    def training_step(self, batch: list[Sample], batch_idx: int) -> Tensor:
        micro_batch = batch_idx % max(1, self.trainer.accumulate_grad_batches)
        samples = self.augment(batch, micro_batch)
        # Detectron2 draws the anchors and regions it learns from with the global generator.
        torch.manual_seed(self.step_seed(micro_batch))
        losses: dict[str, Tensor] = self.model([to_detectron2(sample) for sample in samples])
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            values = ", ".join(f"{key} {float(value.detach()):.3g}" for key, value in losses.items())
            raise UserError(
                f"step {self.global_step}: the loss is not finite ({values}; frames "
                f"{', '.join(sample.name for sample in samples)}); lower --lr and --resume"
            )
        size = len(samples)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"losses/{key}": value.detach() for key, value in losses.items()}, batch_size=size)
        self.media = {"sample": samples[0]}
        self._remember_sources(batch)
        return loss

    def _remember_sources(self, batch: list[Sample]) -> None:
        """Keep this batch's confident finds for the next step's pasting, when that step will use them."""
        steps = self.batch_augmentation
        if steps.copy_paste is None or self.global_step + 1 < steps.self_paste_after:
            return
        outputs = self.predict_panoptic([sample.image for sample in batch])
        self._sources = [
            confident_new_objects(output, sample, steps.self_paste_confidence)
            for output, sample in zip(outputs, batch, strict=True)
        ]

    @torch.no_grad()
    def predict_panoptic(self, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Run inference on images (3, H, W); return Detectron2's outputs. The training mode is kept."""
        training = self.model.training
        self.model.eval()
        outputs: list[dict[str, Any]] = self.model(
            [{"image": image, "height": image.shape[-2], "width": image.shape[-1]} for image in images]
        )
        self.model.train(training)
        return outputs

    def validation_step(self, batch: list[dict[str, Any]], batch_idx: int) -> None:
        if self.metric is None:
            return
        outputs = self.predict_panoptic([item["image"] for item in batch])
        for item, output in zip(batch, outputs, strict=True):
            prediction = panoptic_from_output(output, len(self.split.stuffs))
            # A distributed sampler pads the last batch with frames that came before: they count once.
            target = item["target"][None].to(prediction.device)
            self.metric.update(prediction[None], target, image_ids=[item["index"]])
        if batch_idx == 0:
            self.media |= {"validation": batch[0], "output": outputs[0]}

    def on_validation_epoch_end(self) -> None:
        if self.metric is None:
            return
        values = self.metric.compute()
        scalars = {f"val/{key}": float(value) for key, value in values.items() if value.ndim == 0}
        self.log_dict(scalars)
        self.log("pq_val", float(values["pq"]), prog_bar=True, logger=False)
        self.metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_parameters"] = {
            **self.description,
            "thing_pseudo_classes": list(self.split.things),
            "stuff_pseudo_classes": list(self.split.stuffs),
        }

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, list) and batch and isinstance(batch[0], Sample):
            return [sample.to(device) for sample in batch]
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
