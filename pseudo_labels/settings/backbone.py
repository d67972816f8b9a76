"""Settings of the training of a backbone on one's own images."""

from __future__ import annotations

from dataclasses import dataclass

from cups.allowed import BELOW_ONE, FRACTION, GIGABYTES, ROWS, SCALE, SIDE, WIDTH, whole, within
from cups.errors import UserError
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import flag, other_default

STRIDE = 32
"""Of the last stage of a ResNet."""


@dataclass(frozen=True)
class TrainBackboneSettings(Training):
    """Backbone.

    VICRegL (Bardes et al., NeurIPS 2022) with the factors of its loss. It needs no negatives: on streets, a
    road in another image is none. The optimiser is AdamW, for small batches.
    """

    architecture: str = flag(
        "resnet50", "network; Stage 2 takes a resnet50 as it is", choices=("resnet18", "resnet50")
    )
    height: int = flag(
        512, "rows that images are brought to before they are cut (0: as they are)", allowed=ROWS
    )
    crop: int = flag(224, "side of the views in pixels, a multiple of 32", allowed=SIDE)
    scale: tuple[float, float] = flag(
        (0.6, 1.6), "smallest and largest side of what a view shows, in `crop`", allowed=SCALE
    )
    shift: float = flag(
        0.3, "most that the second view is off the first, in sides of what that shows", allowed=within(0, 0.5)
    )
    global_weight: float = flag(0.75, "of whole views, the rest is of places in them", allowed=FRACTION)
    projection_dim: int = flag(
        2048, "channels in which whole views are compared (VICReg: 8192)", allowed=WIDTH
    )
    local_dim: int = flag(512, "channels in which places are compared", allowed=WIDTH)
    average: float = flag(
        0.999, "decay of the average over steps that is kept (0: the last step)", allowed=BELOW_ONE
    )
    cache_gb: float = flag(1.0, "memory for resized images (per worker)", decides=False, allowed=GIGABYTES)
    steps: int = other_default(Training, "steps", 20000)
    batch_size: int = other_default(Training, "batch_size", 64, whole(2, 2**16))
    lr: float = other_default(Training, "lr", 1e-3)
    weight_decay: float = other_default(Training, "weight_decay", 1e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop % STRIDE:
            raise UserError(f"`crop` {self.crop}: must be a multiple of {STRIDE}")
        if self.scale[0] > self.scale[1]:
            raise UserError(f"`scale` {self.scale[0]:g} {self.scale[1]:g}: the smaller first")
