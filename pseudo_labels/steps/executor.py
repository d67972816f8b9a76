"""Running a step in several processes of this machine, or as jobs of a SLURM cluster: `executor`.

Each job runs the same `main` on its shard of the frames. Shards need nothing from each other but the file
system; one that was killed goes on where it was when the command is given again.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pseudo_labels
from cups.errors import NothingFound, UserError, as_flags, run_main
from cups.io.children import end_with
from pseudo_labels.steps.options import ShardRun, Submission

log = logging.getLogger(__name__)
Main = Callable[[Sequence[str] | None], int]
POLL_SECONDS = {"local": 0.2, "slurm": 5.0}
YEAR_MINUTES = 365 * 24 * 60
RESTARTS = 100
"""Times that a job which reached its time limit is queued again; it resumes."""


def run_script(main: Main) -> None:
    """Run the entry point of a step here, or its shards where `executor` says."""
    argv = sys.argv[1:]

    def run() -> int:
        try:
            return main(argv)
        except Submission as submission:
            return submit(module_of(main), argv, submission)

    run_main(run)


def module_of(main: Main) -> str:
    """Return the importable name of the module that `main` is defined in, even if it runs as a script."""
    file = Path(main.__code__.co_filename).resolve()
    root = Path(pseudo_labels.__file__).resolve().parents[1]
    return ".".join(file.relative_to(root).with_suffix("").parts)


@dataclass(frozen=True)
class Shard:
    """What one job does: a picklable call of `module.main(argv)`."""

    module: str
    argv: tuple[str, ...]
    threads: int | None = None
    parent: int | None = None

    def __call__(self) -> tuple[int, str] | None:
        """Run the step; returns exit code and line of a `UserError`, None if all went well."""
        import torch

        if self.parent is not None:
            end_with(self.parent)  # submitit's jobs outlive who started them
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            code = importlib.import_module(self.module).main(list(self.argv))
        except UserError as error:
            return error.code, str(error)
        return (UserError.code, f"exit code {code}") if code else None

    def checkpoint(self) -> Any:
        """Return what submitit queues again after a time limit or preemption: the same, for it resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(module: str, argv: Sequence[str], asked: Submission) -> int:
    """Run the shards of a step as jobs and wait: 0, 1 (a crash), 2 (a `UserError`) or 3 (nothing found).

    Raises:
        UserError: bad arguments, or no cluster here.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    run = asked.run
    if run.shard:
        raise UserError("`executor`: runs all shards; leave `shard` out")
    count = min(run.num_shards, len(asked.frames.frames()))
    name = module.rpartition(".")[2]
    folder = run.executor_folder or run.root(asked.frames) / "submitit" / name
    # Later flags win: the shards run the same command line with these behind it. The root may come from this
    # machine's environment, which a job need not have.
    root = asked.frames.cityscapes_root
    argv = (*argv, *(() if root is None else ("--cityscapes_root", str(root))))
    common = (*argv, "--executor", "none", "--num_shards", str(count), "--run_id", uuid.uuid4().hex)
    shards = [Shard(module, (*common, "--shard", str(index))) for index in range(count)]
    try:
        if run.executor == "local":
            jobs = _local_jobs(shards, folder, asked.device)
        else:
            jobs = _slurm_jobs(shards, folder, run, asked.device, name)
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        raise UserError(f"`executor` {run.executor}: {' '.join(str(error).split())[-300:]}") from None
    log.info("%s: %d shards, logs in %s", name, len(jobs), folder)
    return _wait(jobs, name, POLL_SECONDS[run.executor])


def _local_jobs(shards: Sequence[Shard], folder: Path, device: str) -> list[Any]:
    from submitit import LocalExecutor

    executor = LocalExecutor(folder)
    executor.update_parameters(timeout_min=YEAR_MINUTES)
    gpus = _gpus(device)
    # Of the GPUs a shard sees one, whatever number that has here.
    seen = ("--device", "cuda") if ":" in device else ()
    threads = max(1, (os.cpu_count() or 1) // len(shards))
    jobs = []
    for index, shard in enumerate(shards):
        if gpus:
            executor.update_parameters(gpus_per_node=1, visible_gpus=[gpus[index % len(gpus)]])
        jobs.append(executor.submit(Shard(shard.module, (*shard.argv, *seen), threads, os.getpid())))
    return jobs


def _gpus(device: str) -> list[int]:
    """Return the GPUs that shards on this machine share; each sees one of them."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        if device.startswith("cuda"):
            raise UserError(f"`device` {device}: this machine has no CUDA device; use cpu")
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    numbers = [int(gpu) for gpu in listed] if all(gpu.isdigit() for gpu in listed) else []
    numbers = numbers or list(range(torch.cuda.device_count()))
    return [numbers[int(device.partition(":")[2])]] if ":" in device else numbers


def _slurm_jobs(shards: Sequence[Shard], folder: Path, run: ShardRun, device: str, name: str) -> list[Any]:
    from submitit import SlurmExecutor

    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"`executor` slurm: no {program} on this machine; start it on one of the cluster's, "
                "or use local"
            )
    executor = SlurmExecutor(folder, max_num_timeout=RESTARTS)
    chosen = {
        "partition": run.slurm_partition,
        "account": run.slurm_account,
        "gpus_per_node": None if device == "cpu" else run.slurm_gpus or None,
    }
    executor.update_parameters(
        job_name=name,
        time=run.slurm_time,
        cpus_per_task=run.slurm_cpus,
        mem=f"{run.slurm_mem}GB",
        array_parallelism=len(shards),
        **{key: value for key, value in chosen.items() if value is not None},
    )
    with executor.batch():
        jobs = [executor.submit(shard) for shard in shards]
    return jobs


def _wait(jobs: Sequence[Any], name: str, seconds: float) -> int:
    from tqdm import tqdm

    waiting = dict(enumerate(jobs))
    try:
        with tqdm(total=len(jobs), desc=name, unit="shard") as bar:
            while waiting:
                for index in [index for index, job in waiting.items() if job.done()]:
                    del waiting[index]
                    bar.update()
                if waiting:
                    time.sleep(seconds)
    except KeyboardInterrupt:
        for job in waiting.values():
            job.cancel(check=False)
        raise
    codes = {_report(index, job) for index, job in enumerate(jobs)}
    # "Nothing found" is said of a run that is through: of one with a failed shard nobody knows.
    return max(codes - {NothingFound.code}, default=0) or max(codes)


def _report(index: int, job: Any) -> int:
    """Log how a finished job failed, if it did; returns its exit code."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        error = job.result()
    except (FailedJobError, UncompletedJobError) as crash:
        # The trace (or the end of the log), before submitit's hint where to find more.
        text = str(crash).partition("You can check full logs")[0]
        lines = [line for line in text.splitlines() if line.strip(" -")]
        log.error("shard %d crashed: %s (log: %s)", index, lines[-1] if lines else crash, job.paths.stderr)
        return 1
    if error is not None:
        code, line = error
        log.error("shard %d: error: %s", index, as_flags(line))
        return int(code)
    return 0
