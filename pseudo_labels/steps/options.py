"""How a step runs: where it writes, whether it redoes, over how many processes and machines.

Nothing here decides what is written into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cups.allowed import COUNT, NAME, WHOLE, WORKERS, whole
from cups.errors import UserError
from cups.io.images import refuse_output_inside
from pseudo_labels.steps.flags import Settings, flag, parse
from pseudo_labels.steps.frames import Frame, FrameSource

R = TypeVar("R", bound="ShardRun")
W = TypeVar("W", bound="WholeRun | ShardRun")
S = TypeVar("S")
SHARDS = whole(1, 10_000)
EXECUTORS = ("none", "local", "slurm")


@dataclass(frozen=True)
class OutputRoot(Settings):
    """Output."""

    output_root: Path | None = flag(
        None, "where folders are written (default: `cityscapes_root`)", decides=False
    )
    skip_bad: bool = flag(
        False, "leave out images that cannot be read here or could not in an earlier step", decides=False
    )

    def root(self, frames: FrameSource) -> Path:
        """Return the folder under which the step writes.

        Raises:
            UserError: a plain image folder must not fill up with label files.
        """
        root = self.output_root or frames.cityscapes_root
        if root is None:
            raise UserError("`output_root`: missing; it is needed with `image_dir`")
        if frames.image_dir is not None:
            refuse_output_inside(root, frames.image_dir)
        return root

    def source(self, frames: FrameSource) -> FrameSource:
        """Return the frames of a step: with `skip_bad` without those that earlier steps left out."""
        return replace(frames, left_out_by=self.root(frames)) if self.skip_bad else frames


@dataclass(frozen=True)
class RunOptions(OutputRoot):
    """Files that exist."""

    overwrite: bool = flag(False, "redo files that exist", decides=False)


@dataclass(frozen=True)
class ClusterJobs(Settings):
    """Jobs of a SLURM cluster."""

    executor_folder: Path | None = flag(
        None, "jobs and logs (default: submitit/ under the output root)", decides=False
    )
    slurm_partition: str | None = flag(
        None, "partition of the jobs (default: the cluster's)", decides=False, allowed=NAME
    )
    slurm_account: str | None = flag(
        None, "account of the jobs (default: the user's)", decides=False, allowed=NAME
    )
    slurm_time: int = flag(
        240, "minutes per job; then it is queued again, and goes on", decides=False, allowed=COUNT
    )
    slurm_gpus: int = flag(
        0, "GPUs per job (none where `device` is cpu)", decides=False, allowed=whole(0, 1024)
    )
    slurm_cpus: int = flag(4, "processor cores per process", decides=False, allowed=whole(1, 10_000))
    slurm_mem: int = flag(
        32, "GB of memory per job (0: what the cluster gives)", decides=False, allowed=WHOLE
    )


@dataclass(frozen=True)
class WholeRun(ClusterJobs):
    """Where it runs."""

    executor: str = flag(
        "none", "run it as a job of a SLURM cluster", choices=("none", "slurm"), decides=False
    )


@dataclass(frozen=True)
class TrainingRun(WholeRun, RunOptions):
    """Training as a job."""

    slurm_gpus: int = flag(
        1,
        "GPUs per job, at least `num_gpus` (none where `device` is cpu)",
        decides=False,
        allowed=whole(0, 1024),
    )


@dataclass(frozen=True)
class ShardRun(ClusterJobs, RunOptions):
    """Run, over the images one by one."""

    num_workers: int = flag(
        0,
        "worker processes, or threads that read and write around a network (0: none)",
        decides=False,
        allowed=WORKERS,
    )
    num_shards: int = flag(1, "split the images into N parts", decides=False, allowed=SHARDS)
    shard: int = flag(0, "without `executor`: do this part (0 to N-1)", decides=False, allowed=WHOLE)
    executor: str = flag(
        "none",
        "run all parts: as processes of this machine, or as jobs of a SLURM cluster",
        choices=EXECUTORS,
        decides=False,
    )
    run_id: str | None = flag(None, decides=False, hidden=True, allowed=NAME)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shard < self.num_shards:
            highest = self.num_shards - 1
            raise UserError(f"`shard` {self.shard}: must be between 0 and `num_shards` - 1 = {highest}")

    def part(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames of this shard."""
        return list(frames[self.shard :: self.num_shards])

    @property
    def redoes_all(self) -> bool:
        """Whether every file of the folder is made anew; one shard alone redoes only its part."""
        return self.overwrite and (self.num_shards == 1 or self.run_id is not None)


@dataclass(frozen=True)
class FrameRun(ShardRun):
    """Pictures."""

    show: int = flag(
        0, "write a contact sheet of N images", metavar="N", decides=False, allowed=whole(0, 1000)
    )


@dataclass(frozen=True)
class NetworkRun(FrameRun):
    """Run, over the images in batches."""

    num_workers: int = flag(
        4, "threads that read and write around the network", decides=False, allowed=WORKERS
    )
    slurm_gpus: int = flag(
        1, "GPUs per job (none where `device` is cpu)", decides=False, allowed=whole(0, 1024)
    )


class Submission(UserError):
    """Raised once `executor` has been read; `executor.run_script` then starts the jobs.

    So every flag of a step is checked before anything is submitted, and steps need not know of executors.

    Attributes:
        processes: of each job, which a training exchanges gradients between.
    """

    def __init__(self, frames: FrameSource, run: Any, device: str, processes: int = 1) -> None:
        super().__init__(f"`executor` {run.executor}: this step runs as one process; leave it out")
        self.frames, self.run, self.device, self.processes = frames, run, device, processes


def parse_step(
    description: str | None,
    argv: Sequence[str] | None,
    run: type[R],
    settings: type[S],
    source: type[FrameSource] = FrameSource,
) -> tuple[FrameSource, R, S]:
    """Read the command line of a step that goes through the images one by one.

    Args:
        source: a kind with other defaults.

    Raises:
        Submission: `executor` asks for jobs.
        UserError: an impossible value.
    """
    frames, how, what = parse_whole(description, argv, run, settings, source)
    return how.source(frames), how, what


def parse_whole(
    description: str | None,
    argv: Sequence[str] | None,
    run: type[W],
    settings: type[S],
    source: type[FrameSource] = FrameSource,
) -> tuple[FrameSource, W, S]:
    """Read the command line of a step that needs all images at once; as `parse_step`."""
    frames, how, what = parse(description, argv, source, run, settings)
    if how.executor != "none":
        processes = getattr(what, "num_gpus", 1)
        raise Submission(frames, how, getattr(what, "device", "cpu"), processes)
    return frames, how, what
