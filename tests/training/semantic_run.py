"""Trains the semantic part of the small network a few steps; as a program, it makes three runs of one launch.

Its loss is a mean over pixels, equally many in each frame, and nothing is random: unlike the region heads',
its gradient is by rights the same however a batch is divided.

Usage: semantic_run.py KEY VALUE ... -- ARGUMENTS OF train.py -- KEY VALUE ... of a run that breaks
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from cups.augmentation import BatchAugmentation
from cups.builders.run_directory import run_directory
from cups.builders.stage2 import build_training_data, optimizer_settings
from cups.builders.trainer import TrainingData, fit, prepare_process
from cups.config import build_config
from cups.errors import UserError
from cups.model import panoptic_cascade_mask_r_cnn
from cups.pl_model_pseudo import PseudoLabelModule, SelfPaste


class SemanticPart(nn.Module):
    """Trunk and semantic head of the panoptic network, in float64: rounding errors grow from step to step."""

    def __init__(self, stuffs: int) -> None:
        super().__init__()
        network: Any = panoptic_cascade_mask_r_cnn(
            2, stuffs + 1, model_config="Panoptic-Cascade-Mask-R-CNN-Small.yaml"
        )
        self.backbone, self.head = network.backbone.double(), network.sem_seg_head.double()
        self.scale: float = 1.0

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        images, targets = (torch.stack([item[key] for item in batch]) for key in ("image", "sem_seg"))
        logits = F.interpolate(self.head.layers(self.backbone(images.double())), scale_factor=4)
        loss = F.cross_entropy(logits, targets, ignore_index=self.head.ignore_value)
        return {"loss_sem_seg": self.scale * loss}


def build(pairs: Sequence[str]) -> tuple[CfgNode, PseudoLabelModule, TrainingData]:
    config = build_config(None, pairs)
    prepare_process(config)
    data = build_training_data(config)
    data.augment = None
    model = SemanticPart(len(data.split.stuffs))
    module = PseudoLabelModule(
        model, data.split, optimizer_settings(config), BatchAugmentation(), SelfPaste(500, 0.75)
    )
    return config, module, TrainingData(data, None, config)


def main(pairs: Sequence[str], broken_rank: int | None = None) -> int:
    config, module, data = build(pairs)
    if broken_rank is not None and int(os.environ.get("LOCAL_RANK", "0")) == broken_rank:
        module.model.scale = float("nan")
    fit(module, data, config, run_directory(config), resume=False)
    return 0


if __name__ == "__main__":
    import train

    atexit.register(lambda: print(f"in a group at exit: {dist.is_initialized()}", file=sys.stderr))
    first, second = (index for index, argument in enumerate(sys.argv) if argument == "--")
    main(sys.argv[1:first])
    train.main(sys.argv[first + 1 : second])
    try:
        main(sys.argv[second + 1 :], broken_rank=1)
    except UserError as error:
        sys.exit(f"error: {error}")
