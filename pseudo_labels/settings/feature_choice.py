"""Settings of the steps that read a backbone's features, or compute them while they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.backbones.names import CHOICES, DEFAULT_DINOV2, NAMES, is_own
from cups.errors import UserError
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

    def chosen(self, trained: Mapping[str, Any], path: Path) -> Backbone:
        """Return the backbone that is named, else that of the training.

        Args:
            trained: settings of the network, `backbone` and `backbone_checkpoint` among them.
            path: file of the network, for the error.

        Raises:
            UserError: trained with a file of one's own, which has to be given: a file opens no other.
        """
        if self.backbone is None and self.backbone_checkpoint is None and trained.get("backbone_checkpoint"):
            raise UserError(
                f"{path}: was trained with the weights {_shown(trained['backbone_checkpoint'])}; "
                "give that file with `backbone_checkpoint`, for none that a file names is opened"
            )
        return Backbone(self.backbone or stored_backbone(trained, path), self.backbone_checkpoint)


def stored_backbone(trained: Mapping[str, Any], path: Path) -> str:
    """Return the backbone that a file of a trained network names.

    Raises:
        UserError: `own:PATH`, which has to be given: a file opens no other; or an unknown one.
    """
    name = trained.get("backbone")
    if isinstance(name, str) and name in NAMES:
        return name
    if isinstance(name, str) and is_own(name):
        raise UserError(
            f"{path}: was trained with the backbone {_shown(name)}; give it with `backbone`, for none that "
            "a file names is opened"
        )
    raise UserError(f"{path}: names the backbone {_shown(name)}, which is unknown; check the file")


def _shown(value: Any) -> str:
    return " ".join(value.split())[:100] if isinstance(value, str) else type(value).__name__
