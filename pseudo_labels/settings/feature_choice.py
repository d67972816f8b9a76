"""Settings of the steps that read a backbone's features, or compute them while they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.backbones.names import CHOICES, DEFAULT_DINOV2
from pseudo_labels.settings.features import network_rows
from pseudo_labels.steps.flags import Settings, flag


@dataclass(frozen=True)
class Backbone(Settings):
    """Backbone of the features.

    Its `features_{NAME}/` are read where that folder is there; else the backbone computes them on the fly.
    """

    backbone: str = flag(
        DEFAULT_DINOV2,
        "whose features_{NAME}/ to read; computed on the fly where there is no such folder",
        choices=CHOICES,
    )
    backbone_checkpoint: Path | None = flag(
        None, "its weights, to compute features though there is a folder (default: as downloaded)"
    )

    @property
    def rows(self) -> int:
        """Image height for the backbone; 0 leaves images as they are."""
        return network_rows(self.backbone)


@dataclass(frozen=True)
class TrainedBackbone(Settings):
    """Backbone of the features that a trained network reads."""

    backbone: str | None = flag(
        None,
        "whose features_{NAME}/ to read, or to compute where there are none (default: as in training)",
        choices=CHOICES,
    )
    backbone_checkpoint: Path | None = flag(
        None, "its weights, to compute features though there is a folder (default: as downloaded)"
    )

    def chosen(self, trained: Mapping[str, Any]) -> Backbone:
        """Return the backbone that is named, else that of the training with the weights of then.

        trained: settings of the network, `backbone` and `backbone_checkpoint` among them.
        """
        weights = self.backbone_checkpoint
        if weights is None and self.backbone is None and trained.get("backbone_checkpoint"):
            weights = Path(trained["backbone_checkpoint"])
        return Backbone(self.backbone or trained["backbone"], weights)
