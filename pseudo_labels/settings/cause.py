"""Settings of the steps with CAUSE heads: their training, and codes and clusters from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import (
    BATCH,
    CLUSTERS,
    GIGABYTES,
    MINUTES,
    NOT_NEGATIVE,
    RATE,
    ROWS,
    SEED,
    SIDE,
    WHOLE,
    WIDTH,
    WORKERS,
    whole,
)
from cups.backbones.names import CHOICES, DEFAULT_DINOV2
from pseudo_labels.settings.groups import Inference, Precision
from pseudo_labels.settings.training import SAVE_MINUTES
from pseudo_labels.steps.flags import Settings, flag

WINDOW_BATCH = 16
"""Windows that a backbone takes at once."""
EPOCHS = {"codebook": (1, 150), "head": (2, 200), "probe": (5, 150)}
"""Of each phase of the training: epochs (CAUSE), and the least number of steps."""


@dataclass(frozen=True)
class HeadsChoice(Precision):
    """Backbone, CAUSE heads, and how images are cut for them."""

    backbone: str | None = flag(None, "feature extractor (default: the heads' own)", choices=CHOICES)
    backbone_checkpoint: Path | None = flag(None, "its weights (default: beside the heads)")
    checkpoint_dir: Path | None = flag(
        None, "folder of the heads (default: cause_{backbone} in the output root, or refs/cause/CAUSE)"
    )
    height: int | None = flag(
        None, "image height for the backbone, 0: native (ViT/14 644, texton at most 192)", allowed=ROWS
    )
    window: int | None = flag(None, "window side in pixels (ViT/14 322, ViT/16 320, texton 96)", allowed=SIDE)
    stride: int | None = flag(None, "pixels between windows (half a window)", allowed=SIDE)


@dataclass(frozen=True)
class EdgeRefinement(Settings):
    """Dense CRF."""

    crf: bool = flag(False, "refine labels along edges by a dense CRF (slow)")
    crf_height: int = flag(
        320, "image height inside the CRF, 0: native (default: 320, as CAUSE)", allowed=ROWS
    )

    @property
    def crf_rows(self) -> int | None:
        """Image height inside the CRF, 0: native; None without a CRF."""
        return self.crf_height if self.crf else None


@dataclass(frozen=True)
class CauseSettings(HeadsChoice, EdgeRefinement, Inference):
    """Labels."""

    batch_size: int = flag(
        WINDOW_BATCH,
        "windows that the network takes at once on a GPU; on a CPU one",
        decides=False,
        allowed=BATCH,
    )
    flip: str = flag(
        "windows", "average with the mirror image of each window, or not", choices=("windows", "off")
    )


@dataclass(frozen=True)
class CauseTraining(HeadsChoice):
    """Training."""

    codebook_steps: int | None = flag(
        None, "steps of phase 1 (default: one epoch, at least 150)", allowed=WHOLE
    )
    head_steps: int | None = flag(None, "steps of phase 2 (default: two epochs, at least 200)", allowed=WHOLE)
    probe_steps: int | None = flag(
        None, "steps of phase 3 (default: five epochs, at least 150)", allowed=WHOLE
    )
    crops: int = flag(5, "random windows of each image that an epoch counts", allowed=whole(1, 10_000))
    codebook_size: int = flag(2048, "rows of the modularity codebook", allowed=WIDTH)
    reduced_dim: int = flag(90, "channels of the codes", allowed=WIDTH)
    projection_dim: int = flag(2048, "channels of the contrastive space", allowed=WIDTH)
    hidden_dim: int = flag(2048, "hidden width of the decoder's MLP", allowed=WIDTH)
    num_classes: int = flag(27, "clusters of the probe", allowed=CLUSTERS)
    batch_size: int = flag(16, "windows per step", allowed=BATCH)
    lr: float = flag(1e-3, "Adam learning rate of all phases", allowed=RATE)
    clip: float = flag(1.0, "gradient norm limit of phase 2", allowed=NOT_NEGATIVE)
    seed: int = flag(0, "seed of everything random", allowed=SEED)
    cache_gb: float = flag(2.0, "memory for features of the local backbone", decides=False, allowed=GIGABYTES)
    num_workers: int = flag(4, "threads that read images (0: one)", decides=False, allowed=WORKERS)
    save_minutes: float = flag(
        SAVE_MINUTES, "minutes between saves within a phase (0: each step)", decides=False, allowed=MINUTES
    )
    standardize: str = flag(
        "auto",
        "centre features by statistics of the images (auto: for texton and own)",
        choices=("auto", "on", "off"),
    )

    @property
    def extractor(self) -> str:
        """Name of the backbone that the heads are trained on."""
        return self.backbone or DEFAULT_DINOV2

    def steps(self, phase: str, images: int) -> int:
        """Return the steps of a phase over a number of images.

        The published epochs (1, 2 and 5) run over five crops of each image. On few images that would be
        a handful of steps; the floors were enough on toy streets.
        """
        own = {"codebook": self.codebook_steps, "head": self.head_steps, "probe": self.probe_steps}
        given, (epochs, least) = own[phase], EPOCHS[phase]
        return max(least, epochs * -(-images * self.crops // self.batch_size)) if given is None else given
