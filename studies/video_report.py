"""Video report: what following objects through a clip gains, on toy sequences, with labels that nobody drew.

Stage 1 labels each frame of some clips by itself. Then objects are numbered in three ways, and scored as
video. Finished steps are remembered.
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

CLIPS, CLIP_FRAMES, K = 2, 24, 60
DATA_SEED = 7
"""A city of its own: the settings of the tracker were chosen on another."""


@dataclass(frozen=True)
class VideoSettings(Settings):
    """Video report."""

    output: Path = flag(ROOT / "runs" / "video", "folder of the report")
    clips: int = flag(CLIPS, "toy sequences", allowed=COUNT)
    clip_frames: int = flag(CLIP_FRAMES, "frames of each", allowed=COUNT)
    k: int = flag(K, "clusters of Stage 1", allowed=COUNT)
    seed: int = flag(0, "seed of Stage 1", allowed=SEED)
    num_workers: int = flag(1, "processes of each step", allowed=WORKERS)


NO_HEADS = ("--codebook_steps", "1", "--head_steps", "1", "--probe_steps", "1", "--batch_size", "2")
"""Of CAUSE heads, clusters of features with their context use the standardisation alone."""


def steps(settings: VideoSettings) -> list[Command]:
    """Return the commands up to the labels of single frames, in order."""
    output = settings.output.resolve()
    demo = toy_stage1(output, settings.num_workers, settings.seed, "learned")
    further = {**demo.further, "train_cause": (*demo.further["train_cause"], *NO_HEADS)}
    stage1 = replace(demo, split="train", k=settings.k, further=further)
    flags = ("--clip_frames", str(settings.clip_frames), "--seed", str(DATA_SEED))
    frames = (settings.clips * settings.clip_frames, 0)
    return [
        toy_streets(stage1.root, *flags, frames=frames),
        stage1.cause_heads(),
        stage1.overclusters(stage1.split, stage1.k),
        *stage1.depth_commands(),
        *stage1.refinement_commands(),
        *stage1.instance_commands(),
        stage1.cups_format(stage1.split, stage1.semantics, output / LABELS, stage1.k),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make the labels and write the report."""
    (settings,) = parse(__doc__, argv, VideoSettings)
    output = settings.output.resolve()
    frames = (settings.clips * settings.clip_frames, 0)
    check_streets(output / "toy_streets", frames, "choose another `output`")
    records = run_steps(steps(settings), output / "steps", "video")
    from studies.video_scores import write_report

    print(write_report(output, LABELS, records))
    return 0


if __name__ == "__main__":
    run_main(main)
