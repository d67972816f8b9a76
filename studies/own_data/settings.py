"""Settings of a run on one's own images or video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag, require_at_least

AUTO = "auto"
DEPTHS = "published, video (a network learns from it first), none, or the folder of a depth network"
SIZES = (AUTO, "small", "full")


@dataclass(frozen=True)
class OwnDataSettings(Settings):
    """Own data."""

    input: Path = flag(meaning="folder of images, or a video")
    output: Path = flag(meaning="folder of the run; outside the images")
    checkpoint: Path | None = flag(None, "a trained network: predict with it and train nothing")
    adapt: bool = flag(False, "with `checkpoint`: train it on by self-training on these images first")
    backbone: str = flag(
        AUTO,
        "features of Stage 1 (auto: dinov2_vitb14 if its weights are there, else texton, which needs none)",
    )
    depth: str = flag(AUTO, f"{DEPTHS} (auto: the first of published, video, none that can be had)")
    focal: float | None = flag(
        None, "focal length in image widths, for depth from video (default: from the photo's EXIF, else 0.8)"
    )
    every: int | None = flag(
        None, "of a video take each Nth frame (default: about ten a second)", metavar="N"
    )
    max_images: int | None = flag(None, "use only the first N images", metavar="N")
    k: int | None = flag(None, "clusters (default: 300; with texton 120)")
    size: str = flag(
        AUTO, "networks and trainings (auto: full with a GPU, else small: hours less, far from as good)",
        choices=SIZES,
    )  # fmt: skip
    steps: int | None = flag(None, "optimisation steps of Stage 2 (default: the configuration's)")
    round_steps: int | None = flag(None, "and of each of the three rounds of Stage 3")
    num_workers: int = flag(2, "processes of each step")
    seed: int = flag(0, "seed of clustering and training")
    check: bool = flag(False, "look whether all is there, and what it will take; run nothing")
    fresh: bool = flag(False, "remove an earlier run in `output` first")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("every", "max_images", "steps", "round_steps"):
            if getattr(self, name) is not None:
                require_at_least(1, self, name)
        if self.k is not None and self.k < 2:
            raise UserError(f"`k` {self.k}: must be at least 2")
        if self.focal is not None and not 0.1 <= self.focal <= 10:
            raise UserError(f"`focal` {self.focal}: in image widths, so between 0.1 and 10 (a phone: 0.8)")
        if self.adapt and self.checkpoint is None:
            raise UserError("`adapt`: trains a network on; give it with `checkpoint`")
        if not self.input.exists():
            raise UserError(f"{self.input}: no such file or folder; check `input`")
        inside, images = self.output.resolve(), self.input.resolve()
        if inside == images or images in inside.parents:
            raise UserError(f"{self.output}: lies inside `input`; its pictures would be taken for images")
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise UserError(f"{self.checkpoint}: no such file; check `checkpoint`")
