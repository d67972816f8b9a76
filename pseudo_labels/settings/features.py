"""Settings of the steps that write features of a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import BATCH, ROWS
from cups.backbones.names import (
    DEFAULT_DINOV2,
    DEFAULT_DINOV3,
    DINOV2_NAMES,
    DINOV3_NAMES,
    OWN,
    TEXTON,
    Choices,
    is_own,
    own_rows,
)
from pseudo_labels.settings.groups import Inference
from pseudo_labels.steps.flags import flag


def network_rows(backbone: str) -> int:
    """Return the default image height for a backbone; 0 leaves images as they are."""
    if is_own(backbone):
        return own_rows(backbone)
    return 0 if backbone == TEXTON else 644


@dataclass(frozen=True)
class FeatureSettings(Inference):
    """Features."""

    batch_size: int = flag(
        8,
        "images of one size that the network takes at once on a GPU; on a CPU one",
        decides=False,
        allowed=BATCH,
    )
    backbone: str = flag(DEFAULT_DINOV2, "network", choices=Choices((*DINOV2_NAMES, TEXTON, f"{OWN}PATH")))
    backbone_checkpoint: Path | None = flag(
        None, "its weights (default: where download_checkpoints.sh puts it)"
    )
    height: int | None = flag(
        None,
        "image height for the network, 0: native (default: 644, texton native, own as trained)",
        allowed=ROWS,
    )
    flip: bool = flag(False, "average with the features of the mirrored image")

    @property
    def rows(self) -> int:
        """Image height for the network; 0 leaves images as they are."""
        return network_rows(self.backbone) if self.height is None else self.height


@dataclass(frozen=True)
class DinoV3Settings(FeatureSettings):
    """Features of DINOv3."""

    backbone: str = flag(DEFAULT_DINOV3, "network", choices=DINOV3_NAMES)
