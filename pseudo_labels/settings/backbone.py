"""Settings of the training of a backbone on one's own images."""

from __future__ import annotations

from dataclasses import dataclass

from cups.errors import UserError
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import flag, other_default, require_at_least

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
    height: int = flag(512, "rows that images are brought to before they are cut (0: as they are)")
    crop: int = flag(224, "side of the views in pixels, a multiple of 32")
    scale: tuple[float, float] = flag((0.6, 1.6), "smallest and largest side of what a view shows, in `crop`")
    shift: float = flag(0.3, "most that the second view is off the first, in sides of what that shows")
    global_weight: float = flag(0.75, "of whole views, the rest is of places in them")
    projection_dim: int = flag(2048, "channels in which whole views are compared (VICReg: 8192)")
    local_dim: int = flag(512, "channels in which places are compared")
    average: float = flag(0.999, "decay of the average over steps that is kept (0: the last step)")
    cache_gb: float = flag(1.0, "memory for resized images (per worker)", decides=False)
    steps: int = other_default(Training, "steps", 20000)
    batch_size: int = other_default(Training, "batch_size", 64)
    lr: float = other_default(Training, "lr", 1e-3)
    weight_decay: float = other_default(Training, "weight_decay", 1e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, self, "height", "cache_gb")
        require_at_least(1, self, "projection_dim", "local_dim")
        require_at_least(2, self, "batch_size")
        if self.crop < STRIDE or self.crop % STRIDE:
            raise UserError(f"`crop` {self.crop}: must be a multiple of {STRIDE}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"`scale` {self.scale[0]:g} {self.scale[1]:g}: the smaller first, above 0")
        for name, value, top in (("shift", self.shift, 0.5), ("global_weight", self.global_weight, 1.0)):
            if not 0 <= value <= top:
                raise UserError(f"`{name}` {value:g}: must lie in 0-{top:g}")
        if not 0 <= self.average < 1:
            raise UserError(f"`average` {self.average:g}: must be 0 or more, and below 1")
