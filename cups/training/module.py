"""What the training modules of Stage 2 and Stage 3 share."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.checkpoint import differences, section
from cups.io.provenance import any_ground_truth
from cups.metrics import PanopticQualitySemanticMatching
from cups.model.inputs import batch_to_detectron2, inference_inputs, panoptic_map_from_output
from cups.model.model import class_weights_of
from cups.structures import LoadedImage, Sample, ThingStuffSplit
from cups.training.bad_batch import save_bad_batch
from cups.training.optimizer import OptimizerSettings, build_optimizer, other_parameters
from cups.training.processes import mean_over_processes, step_seed

log = logging.getLogger(__name__)

SHARED = 2**31
"""Stands in seeds where a process has its rank."""


class PanopticModule(pl.LightningModule):
    """A panoptic network that learns from samples: losses, optimiser, validation, what checkpoints tell.

    Args:
        model: panoptic network; Detectron2 conventions (losses in training, outputs in evaluation).
        split: the pseudo-classes behind the network's things and stuff.
        optimizer: see `OptimizerSettings`.
        metric: validation metric over the network's categories, or None.
        seed: seeds the batch augmentation, together with step and rank.
        description: plain containers stored with every checkpoint (config, model settings, provenance).
    """

    def __init__(
        self,
        model: nn.Module,
        split: ThingStuffSplit,
        optimizer: OptimizerSettings,
        metric: PanopticQualitySemanticMatching | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.split = split
        self.settings = optimizer
        self.metric = metric
        self.seed = seed
        self.description = dict(description or {})
        self.media: dict[str, Any] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.model, self.settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.settings.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def step_seed(self, micro_batch: int) -> int:
        """Return a seed of step, micro-batch and rank: a resumed run repeats what the first would do."""
        return step_seed(self.seed, self.global_step, micro_batch, self.global_rank)

    def generators(self, micro_batch: int) -> tuple[torch.Generator, torch.Generator]:
        """Return the randomness of a batch: its own, and one that the whole optimisation step shares.

        What is drawn for a whole batch (its size) is one choice for all processes and micro-batches, so that
        accumulation stands for the GPUs that are missing. In CUPS a step is one batch on each GPU, whose
        processes draw alike from one seed.
        """
        shared = step_seed(self.seed, self.global_step, SHARED)
        seeds = (self.step_seed(micro_batch), shared)
        own, common = (torch.Generator().manual_seed(seed) for seed in seeds)
        return own, common

    def micro_batch(self, batch_idx: int) -> int:
        """Return the number of a batch within its optimisation step."""
        return batch_idx % max(1, self.trainer.accumulate_grad_batches)

    def learn(self, samples: Sequence[Sample], micro_batch: int) -> Tensor:
        """Return the loss of a batch as the network is shown it, and log its parts.

        Raises:
            UserError: when the loss of this or another process is not finite; the batch is in a file then.
        """
        # Detectron2 draws the anchors and regions it learns from with the global generator.
        torch.manual_seed(self.step_seed(micro_batch))
        losses = self._losses(samples)
        loss = torch.stack(list(losses.values())).sum()
        # One exchange tells all processes the mean to log, and whether the loss of any of them is broken: one
        # that stopped alone would leave the others waiting for its gradients.
        mean = mean_over_processes(loss.detach().float())
        if not torch.isfinite(mean):
            raise UserError(self._refusal(samples, losses))
        size = len(samples)
        self.log("loss", mean, prog_bar=True, batch_size=size)
        self.log_dict({f"losses/{key}": value.detach() for key, value in losses.items()}, batch_size=size)
        return loss

    def _losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        try:
            losses: dict[str, Tensor] = self.model(batch_to_detectron2(samples))
        except FloatingPointError:
            # Detectron2 stops at proposals that are not finite, before it has any loss.
            return {"proposals": torch.tensor(float("nan"), device=self.device)}
        return losses

    def _refusal(self, samples: Sequence[Sample], losses: Mapping[str, Tensor]) -> str:
        """Save a batch whose loss is not finite, if it is this process's; return what the user is told."""
        fix = "`resume` with a smaller TRAINING.GRADIENT_CLIP_VAL, or start again with a lower `lr`"
        if all(bool(torch.isfinite(value)) for value in losses.values()):
            return f"step {self.global_step}: the loss of another process is not finite; {fix}"
        folder = Path(self.trainer.default_root_dir)
        path = save_bad_batch(folder, self.global_step, self.global_rank, samples, losses)
        values = ", ".join(f"{key} {float(value.detach()):.3g}" for key, value in losses.items())
        names = ", ".join(sample.name for sample in samples)
        return (
            f"{path}: the loss of this batch is not finite (step {self.global_step}: {values}; frames "
            f"{names}); look at it with torch.load, or {fix}"
        )

    @torch.no_grad()
    def predict_panoptic(self, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Run inference on images (3, H, W); return Detectron2's outputs. The training mode is kept."""
        training = self.model.training
        self.model.eval()
        outputs: list[dict[str, Any]] = self.model(inference_inputs(images))
        self.model.train(training)
        return outputs

    def validation_step(self, batch: list[LoadedImage], batch_idx: int) -> None:
        if self.metric is None:
            return
        outputs = self.predict_panoptic([loaded.image for loaded in batch])
        for loaded, output in zip(batch, outputs, strict=True):
            prediction = panoptic_map_from_output(output, self.split.pseudo_classes)
            # A distributed sampler pads the last batch with frames that came before: they count once.
            target = loaded.ground_truth(self.metric.void)
            self.metric.update([prediction], [target], image_ids=[loaded.index])
        if batch_idx == 0:
            self.media |= {"validation": batch[0], "output": outputs[0]}

    def on_validation_epoch_end(self) -> None:
        if self.metric is None:
            return
        values = self.metric.compute()
        scalars = {f"val/{key}": float(value) for key, value in values.items() if value.ndim == 0}
        # The metric has gathered all processes already, so their values are the same.
        self.log_dict(scalars, sync_dist=True)
        self.log("pq_val", float(values["pq"]), prog_bar=True, logger=False, sync_dist=True)
        self.metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        described = dict(self.description)
        if "model" in described:
            # Of the network itself: no tensor of it holds them, and Stage 3 goes on with them.
            described["model"] = {**described["model"], "class_weights": class_weights_of(self.model)}
        checkpoint["hyper_parameters"] = {
            **described,
            "thing_pseudo_classes": list(self.split.things),
            "stuff_pseudo_classes": list(self.split.stuffs),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what a resumed run must not change, whatever became of its labels since.

        Refuses a checkpoint whose outputs mean other pseudo-classes, even where the sizes fit.

        Raises:
            UserError: the labels, or the network given, are split otherwise than when the run began, or the
                network is built otherwise.
        """
        stored = checkpoint.get("hyper_parameters", {})
        sides = (("thing", self.split.things), ("stuff", self.split.stuffs))
        for kind, now in sides:
            then = stored.get(f"{kind}_pseudo_classes")
            if then is not None and tuple(then) != tuple(now):
                counts = f"{len(then)}, now {len(now)}" if len(then) != len(now) else f"{len(now)} as now"
                raise UserError(
                    f"the run to resume: has other {kind} pseudo-classes than the labels or MODEL.CHECKPOINT "
                    f"now ({counts}); give those it began with, or choose another `run_name`"
                )
        if problems := differences(self.state_dict(), checkpoint["state_dict"]):
            raise UserError(
                f"the run to resume: weights of another network ({problems}); give the keys of MODEL that it "
                "began with, or choose another `run_name`"
            )
        optimizer = build_optimizer(self.model, self.settings)
        if problem := other_parameters(optimizer, checkpoint.get("optimizer_states") or ()):
            raise UserError(
                f"the run to resume: {problem}; give TRAINING.OPTIMIZER, TRAINING.LAYER_DECAY and what "
                "freezes weights as it began, or choose another `run_name`"
            )
        self._keep_class_weights(section(stored, "model").get("class_weights"))
        self._keep_ground_truth(section(stored, "provenance"))

    def _keep_class_weights(self, then: list[float] | None) -> None:
        """Go on with the class weights that the run began with; those of labels made anew have moved.

        Where one side has none, the settings have switched them, of which the start of the run tells.
        """
        now = class_weights_of(self.model)
        if then is None or now is None or then == now:
            return
        head: Any = self.model.sem_seg_head
        head.class_weights.copy_(torch.tensor(then))
        log.warning("the labels weight classes otherwise than when the run began; its own class weights hold")

    def _keep_ground_truth(self, then: Mapping[str, Any]) -> None:
        """Remember that the run has seen ground truth, though what it goes on with has none."""
        now = self.description.get("provenance")
        if now and then:
            facts = [part.get("uses_ground_truth") for part in (then, now)]
            self.description["provenance"] = {**now, "uses_ground_truth": any_ground_truth(facts)}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, list) and batch and isinstance(batch[0], (Sample, LoadedImage)):
            return [item.to(device) for item in batch]
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
