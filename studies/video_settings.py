"""Settings of the video report, and where its masks lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, SEED, WORKERS
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.stage1 import ROOT
from studies.toy_settings import LABELS

CLIPS, CLIP_FRAMES, K = 8, 24, 60
DATA_SEED = 11
"""A city of its own: the settings of the tracker were chosen on others (5 and 7)."""
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class VideoSettings(Settings):
    """Video report."""

    output: Path = flag(ROOT / "runs" / "video", "folder of the runs")
    page: Path = flag(ROOT / "reports" / "video.md", "the report; its picture goes to figures/ beside it")
    checkpoint: Path | None = flag(None, "network whose masks are numbered (default: labels of Stage 1)")
    clips: int = flag(CLIPS, "toy sequences", allowed=COUNT)
    clip_frames: int = flag(CLIP_FRAMES, "frames of each", allowed=COUNT)
    k: int = flag(K, "clusters of Stage 1", allowed=COUNT)
    seed: int = flag(0, "seed of Stage 1", allowed=SEED)
    num_workers: int = flag(1, "processes of each step", allowed=WORKERS)

    @property
    def frames(self) -> tuple[int, int]:
        """Frames of training and validation."""
        return self.clips * self.clip_frames, 0

    @property
    def masks(self) -> Path:
        """Where the masks of single frames lie."""
        parts = (LABELS,) if self.checkpoint is None else (PREDICTIONS, "panoptic.json")
        return self.output.resolve().joinpath(*parts)
