"""Settings of a run on one's own images or video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, PATH, SEED, WORKERS, whole, within
from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag

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
        allowed=PATH,
    )
    depth: str = flag(
        AUTO, f"{DEPTHS} (auto: the first of published, video, none that can be had)", allowed=PATH
    )
    focal: float | None = flag(
        None,
        "focal length in image widths, for depth from video (default: from the photo's EXIF, else 0.8)",
        allowed=within(0.1, 10),
    )
    every: int | None = flag(
        None, "of a video take each Nth frame (default: about ten a second)", metavar="N", allowed=COUNT
    )
    max_images: int | None = flag(None, "use only the first N images", metavar="N", allowed=COUNT)
    k: int | None = flag(None, "clusters (default: 300; with texton 120)", allowed=whole(2, 65534))
    size: str = flag(
        AUTO, "networks and trainings (auto: full with a GPU, else small: hours less, far from as good)",
        choices=SIZES,
    )  # fmt: skip
    steps: int | None = flag(
        None, "optimisation steps of Stage 2 (default: the configuration's)", allowed=COUNT
    )
    round_steps: int | None = flag(None, "and of each of the three rounds of Stage 3", allowed=COUNT)
    num_workers: int = flag(2, "processes of each step", allowed=WORKERS)
    seed: int = flag(0, "seed of clustering and training", allowed=SEED)
    check: bool = flag(False, "look whether all is there, and what it will take; run nothing")
    fresh: bool = flag(False, "remove an earlier run in `output` first")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapt and self.checkpoint is None:
            raise UserError("`adapt`: trains a network on; give it with `checkpoint`")
        if not self.input.exists():
            raise UserError(f"{self.input}: no such file or folder; check `input`")
        inside, images = self.output.resolve(), self.input.resolve()
        if inside == images or images in inside.parents:
            raise UserError(f"{self.output}: lies inside `input`; its pictures would be taken for images")
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise UserError(f"{self.checkpoint}: no such file; check `checkpoint`")
