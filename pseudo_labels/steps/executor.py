"""Running a step in several processes of this machine, or as jobs of a SLURM cluster: `executor`.

Each job runs the same `main` on its shard of the frames. Shards need nothing from each other but the file
system; one that was killed goes on where it was when the command is given again.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pseudo_labels
from cups.errors import NothingFound, Stopped, UserError, as_flags, run_main
from cups.io.children import end_with
from pseudo_labels.steps.options import ShardRun, Submission
from pseudo_labels.steps.slurm_jobs import JobState, Watch, has_result, ids_told, last_line, submit_jobs

log = logging.getLogger(__name__)
Main = Callable[[Sequence[str] | None], int]
POLL_SECONDS = {"local": 0.2, "slurm": 5.0}
YEAR_MINUTES = 365 * 24 * 60
GOES_ON = (0, 128 + signal.SIGUSR1)
"""Exit codes of a training that saved itself before its time was over, and goes on later."""


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
        logging.basicConfig(level=logging.INFO, format="%(message)s")  # as `run_main` does
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            code = importlib.import_module(self.module).main(list(self.argv))
        except UserError as error:
            return error.code, str(error)
        except Stopped as stopped:
            if stopped.code in GOES_ON:  # queued again: what comes has the result
                raise SystemExit(0) from None
            return stopped.code, str(stopped)
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
    if getattr(run, "shard", 0):
        raise UserError("`executor`: runs all shards; leave `shard` out")
    name = module.rpartition(".")[2]
    folder = run.executor_folder or run.root(asked.frames) / "submitit" / name
    shards = [Shard(module, words) for words in _command_lines(argv, asked)]
    try:
        if run.executor == "local":
            jobs = _local_jobs(shards, folder, asked.device)
        else:
            jobs = submit_jobs(shards, folder, run, name, asked.device == "cpu", asked.processes)
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        told = " ".join(str(error).split())[-300:]
        raise UserError(f"`executor` {run.executor}: {told}{_hint(told)}") from None
    watch = Watch(jobs, name)
    what = ids_told(jobs) if run.executor == "slurm" else f"{len(jobs)} shards"
    log.info("%s: %s, logs in %s", name, what, folder)
    done = watch.done if run.executor == "slurm" else _is_done
    _wait(jobs, name, POLL_SECONDS[run.executor], done)
    return _exit_code(jobs, watch.states)


def _command_lines(argv: Sequence[str], asked: Submission) -> list[tuple[str, ...]]:
    """Return the arguments of each job: the same command line with more behind it, for later flags win."""
    # The root may come from this machine's environment, which a job need not have.
    root = asked.frames.cityscapes_root
    argv = (*argv, *(() if root is None else ("--cityscapes_root", str(root))), "--executor", "none")
    if not isinstance(asked.run, ShardRun):
        return [argv]
    count = min(asked.run.num_shards, len(asked.frames.frames()))
    common = (*argv, "--num_shards", str(count), "--run_id", uuid.uuid4().hex)
    return [(*common, "--shard", str(index)) for index in range(count)]


def _hint(error: str) -> str:
    """Return what to do about a refusal of sbatch."""
    hints = {
        "generic resource": "`slurm_gpus` 0 or `device` cpu asks for no GPU",
        "node configuration": "ask for less by `slurm_gpus`, `slurm_cpus` or `slurm_mem`",
        "memory specification": "ask for less by `slurm_mem`",
        "partition": "name one of `sinfo` by `slurm_partition`",
        "account": "name yours by `slurm_account`",
    }
    return next((f"; {fix}" for word, fix in hints.items() if word in error.lower()), "")


def _is_done(job: Any) -> bool:
    return bool(job.done())


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


def _wait(jobs: Sequence[Any], name: str, seconds: float, done: Callable[[Any], bool]) -> None:
    from tqdm import tqdm

    waiting = dict(enumerate(jobs))
    try:
        with _terminated_like_interrupted(name), tqdm(total=len(jobs), desc=name, unit="job") as bar:
            while waiting:
                for index in [index for index, job in waiting.items() if done(job)]:
                    del waiting[index]
                    bar.update()
                if waiting:
                    time.sleep(seconds)
    except BaseException:
        for job in waiting.values():
            job.cancel(check=False)
        raise


@contextmanager
def _terminated_like_interrupted(name: str) -> Iterator[None]:
    """While entered, SIGTERM raises `Stopped`: what waits for jobs takes them along."""

    def stop(number: int, _: object) -> None:
        raise Stopped(f"{name}: stopped, with its jobs; the same command goes on", number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(jobs: Sequence[Any], states: Mapping[str, JobState]) -> int:
    """Log how jobs failed, if they did; returns the exit code of all together.

    Args:
        states: what the cluster said last, by job.
    """
    codes = {_report(index, job, states.get(job.job_id)) for index, job in enumerate(jobs)}
    # "Nothing found" is said of a run that is through: of one with a failed shard nobody knows.
    return max(codes - {NothingFound.code}, default=0) or max(codes)


def _report(index: int, job: Any, state: JobState | None) -> int:
    """Log how a finished job failed, if it did; returns its exit code."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    path = job.task(0).paths.stderr
    if state is not None and not has_result(job):
        # Not submitit: without accounting it would wait forever.
        line = last_line(path)
        shown = (index, job.job_id, state, f"; {line}" if line else "", path)
        log.error("shard %d: job %s ended without a result: %s%s (log: %s)", *shown)
        return 1
    try:
        errors = [job.task(number).result() for number in range(job.num_tasks)]
    except (FailedJobError, UncompletedJobError) as crash:
        # The trace (or the end of the log), before submitit's hint where to find more.
        text = str(crash).partition("You can check full logs")[0]
        lines = [line for line in text.splitlines() if line.strip(" -")]
        log.error("shard %d crashed: %s (log: %s)", index, lines[-1] if lines else crash, path)
        return 1
    for code, line in (error for error in errors if error is not None):
        log.error("shard %d: error: %s (log: %s)", index, as_flags(line), path)
        return int(code)
    return 0
