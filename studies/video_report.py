"""Video report: what following objects through a clip gains, on toy sequences, with masks that nobody drew.

Each frame is labelled by itself: by Stage 1, or by a network (--checkpoint: that of the demo, say). Then
objects are numbered in several ways, and scored as video. Finished steps are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from pseudo_labels.steps.stage1 import Command
from studies.commands import check_streets, run_steps, toy_streets
from studies.demo_steps import toy_stage1
from studies.video_settings import DATA_SEED, VideoSettings

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
