"""Video report: what following objects through a clip gains, on toy sequences, with masks that nobody drew.

Each frame is labelled by itself: by Stage 1, or by a network (--checkpoint: that of the demo, say). Then
objects are numbered in several ways, and scored as video. Finished steps are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cups.allowed import COUNT, SEED, WORKERS
from cups.errors import run_main
from pseudo_labels.steps.flags import Settings, flag, parse
from pseudo_labels.steps.stage1 import ROOT, Command
from studies.commands import check_streets, run_steps, toy_streets
from studies.demo_steps import toy_stage1
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


NO_HEADS = ("--codebook_steps", "1", "--head_steps", "1", "--probe_steps", "1", "--batch_size", "2")
"""Of CAUSE heads, clusters of features with their context use the standardisation alone."""


def steps(settings: VideoSettings) -> list[Command]:
    """Return the commands up to the masks of single frames, in order."""
    root = settings.output.resolve() / "toy_streets"
    flags = ("--clip_frames", str(settings.clip_frames), "--seed", str(DATA_SEED))
    streets = toy_streets(root, *flags, "--workers", str(settings.num_workers), frames=settings.frames)
    if settings.checkpoint is None:
        return [streets, *_stage1(settings)]
    where = ("--input", str(root / "leftImg8bit"), "--output", str(settings.masks.parent))
    network = ("--checkpoint", str(settings.checkpoint.resolve()), *where, "--no_tracking", "--no_overlays")
    return [streets, Command("predictions", "predict.py", network)]


def _stage1(settings: VideoSettings) -> list[Command]:
    demo = toy_stage1(settings.output.resolve(), settings.num_workers, settings.seed, "learned")
    further = {**demo.further, "train_cause": (*demo.further["train_cause"], *NO_HEADS)}
    stage1 = replace(demo, split="train", k=settings.k, further=further)
    return [
        stage1.cause_heads(),
        stage1.overclusters(stage1.split, stage1.k),
        *stage1.depth_commands(),
        *stage1.refinement_commands(),
        *stage1.instance_commands(),
        stage1.cups_format(stage1.split, stage1.semantics, settings.masks, stage1.k),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make the masks and write the report."""
    (settings,) = parse(__doc__, argv, VideoSettings)
    output = settings.output.resolve()
    check_streets(output / "toy_streets", settings.frames, "choose another `output`")
    run_steps(steps(settings), output / "steps", "video")
    from studies.video_page import write_report

    print(write_report(replace(settings, output=output)))
    return 0


if __name__ == "__main__":
    run_main(main)
