"""Self-supervised training of a ResNet on one's own images, by a loss of the library lightly."""

from __future__ import annotations

import logging
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cups.backbones.names import OWN_FILE
from cups.backbones.own import bare_resnet, stages
from cups.errors import NothingFound, UserError
from pseudo_labels.inputs.views import ViewPairs
from pseudo_labels.networks.training import Fit, train
from pseudo_labels.networks.weight_files import save_weights
from pseudo_labels.settings.backbone import STRIDE, TrainBackboneSettings
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.options import RunOptions

log = logging.getLogger(__name__)
SCRIPT = "train_backbone"
FOLDER = "own_backbone"
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises (VICReg: 10 of 100 to 1000 epochs)."""
COLLAPSED = 0.05
"""Mean spread of the compared channels below which all views look the same to the network; the loss asks for
1."""


class BackboneFit(Fit):
    """A ResNet, its average over the steps, and the projectors that the loss compares through."""

    settings: TrainBackboneSettings

    def __init__(self, settings: TrainBackboneSettings) -> None:
        from lightly.loss.vicregl_loss import VICRegLLoss
        from lightly.models.modules.heads import VicRegLLocalProjectionHead, VICRegProjectionHead

        super().__init__(settings)
        torch.manual_seed(settings.seed)
        self.network = bare_resnet(settings.architecture)
        self.average = bare_resnet(settings.architecture).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        last = self.network.layer4[-1]
        channels = getattr(last, "bn3", last.bn2).num_features
        wide, local = settings.projection_dim, settings.local_dim
        self.whole = VICRegProjectionHead(channels, wide, wide)
        self.places = VicRegLLocalProjectionHead(channels, local, local)
        self.criterion = VICRegLLoss(alpha=settings.global_weight)
        self.spread: Tensor | None = None
        """Mean standard deviation of what whole views are compared in; 0: all look the same."""

    def on_fit_start(self) -> None:
        """Let the loss see the views of all processes: its statistics want many."""
        together = self.trainer.world_size > 1
        self.criterion.gather_distributed = self.criterion.vicreg_loss.gather_distributed = together

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (step + 1) / self.settings.steps
        return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return VICRegL of a batch of `ViewPairs`."""
        self.follow()
        count = len(batch["views"])
        maps = stages(self.network, batch["views"].transpose(0, 1).flatten(0, 1))[-1]
        whole = self.whole(maps.mean(dim=(2, 3)))
        places = self.places(maps.permute(0, 2, 3, 1))
        with torch.autocast(maps.device.type, enabled=False):
            features = list(zip(whole.float().split(count), places.float().split(count), strict=True))
            loss = self.criterion(features, list(batch["grids"].unbind(dim=1)))
        self.spread = whole.detach().float().std(dim=0).mean()
        self.log("spread", self.spread)
        return {"vicregl": loss}

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the network, as it was after the step before; faster in the beginning."""
        step = self.global_step
        decay = min(self.settings.average, step / (10 + step))
        pairs = zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True)
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(now)


def train_backbone(source: FrameSource, settings: TrainBackboneSettings, run: RunOptions) -> None:
    """Train on the source's images and write `backbone.pth`.

    Raises:
        UserError: lightly is not installed, a folder with another run.
        NothingFound: all images look the same to the network.
    """
    if find_spec("lightly") is None:
        raise UserError("lightly: not installed, and the loss is its; pip install lightly")
    images = [frame.image for frame in source.frames()]
    folder = settings.checkpoint_dir or run.root(source) / FOLDER
    cache = int(settings.cache_gb * 2**30)
    dataset = ViewPairs(
        images,
        settings.height,
        settings.crop,
        STRIDE,
        settings.scale,
        settings.shift,
        settings.seed,
        cache,
    )
    fit = BackboneFit(settings)
    train(fit, dataset, source, run, folder, script=SCRIPT)
    if not fit.trainer.is_global_zero:
        return
    if fit.spread is not None and fit.spread < COLLAPSED:
        raise NothingFound(
            f"{folder}: the network sees no difference between the images (spread {fit.spread:.3f}); give "
            "more images, or a larger `batch_size`"
        )
    fit.follow()
    save_backbone(folder / OWN_FILE, fit)
    log.info("weights: %s; for Stage 1: `backbone` own:%s", folder / OWN_FILE, folder / OWN_FILE)


def save_backbone(path: Path, fit: BackboneFit) -> None:
    """Write the average with torchvision's names, and what a reader must know."""
    settings = fit.settings
    told: dict[str, Any] = {"architecture": settings.architecture, "height": settings.height}
    save_weights(path, fit.average.state_dict(), {**told, "crop": settings.crop})
