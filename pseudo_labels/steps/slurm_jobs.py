"""Jobs of a SLURM cluster: their submission through submitit, and what has become of them.

submitit asks the accounting (`sacct`), which many clusters do not have: it then waits for a cancelled job
forever. Here the queue is asked (`squeue`). A job has ended once it has left its result, or the queue.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cups.errors import UserError
from pseudo_labels.steps.options import ClusterJobs

log = logging.getLogger(__name__)

SIGNAL = "USR1"
"""What a job gets before its time is over; trainings save then, see `cups.training.stopping`."""
SIGNAL_SECONDS = 120
"""How long before: time to end a step and to write a checkpoint."""
RESTARTS = 100
"""Times that a job which reached its time limit is queued again; it resumes."""
ASK_SECONDS = 15.0
"""Between two looks at the queue."""
GRACE_SECONDS = 30.0
"""After its end a job's result may take this long to be seen, over a shared file system."""
QUERY_SECONDS = 60
UNFINISHED = frozenset(
    (
        *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"),
        *("COMPLETING", "STAGE_OUT", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
    )
)
"""States of jobs that may still leave a result; all others are of jobs that have ended."""

WAITING = ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT", "UNKNOWN")
"""States that have a reason; of others SLURM tells an old one."""


@dataclass(frozen=True)
class JobState:
    """What the cluster says of a job: its state, in SLURM's word, and why it waits."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        told = self.reason not in ("", "None") and self.name in WAITING
        return self.name.lower() + (f" ({self.reason})" if told else "")


GONE = JobState("UNKNOWN", "no longer in the queue")


def submit_jobs(
    calls: Sequence[Callable[[], Any]],
    folder: Path,
    run: ClusterJobs,
    name: str,
    on_cpu: bool,
    processes: int = 1,
) -> list[Any]:
    """Submit picklable calls as jobs, several as one array; returns submitit's jobs.

    Args:
        processes: of each job, one for each GPU.

    Raises:
        UserError: no cluster here.
    """
    from submitit import SlurmExecutor

    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise UserError(
                f"`executor` slurm: no {program} on this machine; start it on one of the cluster's, "
                "or use local"
            )
    executor = SlurmExecutor(folder, max_num_timeout=RESTARTS)
    gpus = 0 if on_cpu or not run.slurm_gpus else max(run.slurm_gpus, processes)
    chosen = {
        "partition": run.slurm_partition,
        "account": run.slurm_account,
        "gpus_per_node": gpus or None,
        "ntasks_per_node": processes if processes > 1 else None,
        "mem": f"{run.slurm_mem}GB" if run.slurm_mem else None,
    }
    executor.update_parameters(
        job_name=name,
        time=run.slurm_time,
        cpus_per_task=run.slurm_cpus,
        array_parallelism=len(calls),
        # To the processes, not to the script; outside of trainings submitit itself answers it.
        setup=[f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}"],
        additional_parameters={"signal": f"{SIGNAL}@{SIGNAL_SECONDS}", "requeue": True},
        **{key: value for key, value in chosen.items() if value is not None},
    )
    with executor.batch():
        jobs = [executor.submit(call) for call in calls]
    return jobs


def job_states(ids: Sequence[str]) -> dict[str, JobState] | None:
    """Return what the cluster says of jobs ("42", or "42_0" of an array), None if it does not answer.

    Jobs that it has forgotten are left out.
    """
    numbers = sorted({one.partition("_")[0] for one in ids})
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(numbers)}"]
    told = _ask([*command, "--format=%i|%T|%r"])
    if told is None:
        return None
    rows = (line.strip().split("|") for line in told.splitlines())
    states = {row[0]: JobState(row[1], row[2]) for row in rows if len(row) == 3}
    found = {one: states[one] for one in ids if one in states}
    return {**_accounted([one for one in ids if one not in found]), **found}


def _accounted(ids: Sequence[str]) -> dict[str, JobState]:
    """Return what the accounting, if there is one, says of jobs that are no longer in the queue."""
    if not ids or shutil.which("sacct") is None:
        return {}
    command = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State"]
    rows = (line.split("|") for line in (_ask([*command, f"--jobs={','.join(ids)}"]) or "").splitlines())
    states = {row[0]: JobState(row[1].partition(" ")[0]) for row in rows if len(row) == 2 and row[1]}
    return {one: states[one] for one in ids if one in states}


def _ask(command: Sequence[str]) -> str | None:
    """Return what a program of the cluster prints; "" for jobs that it has forgotten, None if it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if run.returncode and "invalid job id" not in run.stderr.lower():
        return None
    return run.stdout


@dataclass
class Watch:
    """Follows the jobs of a submission and tells when something changes.

    Args:
        jobs: submitit's.
        name: of the step.
    """

    jobs: Sequence[Any]
    name: str
    states: dict[str, JobState] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=dict)
    _told: str = ""
    _asked: float = float("-inf")
    _silent: bool = False

    def done(self, job: Any) -> bool:
        """Return whether a job has left its result, or has ended without."""
        if has_result(job):
            return True
        self._look()
        ended = self._ended.get(job.job_id)
        return ended is not None and time.monotonic() - ended >= GRACE_SECONDS

    def _look(self) -> None:
        if time.monotonic() - self._asked < ASK_SECONDS:
            return
        waiting = [job.job_id for job in self.jobs if not has_result(job)]
        states = job_states(waiting)
        self._asked = time.monotonic()
        if states is None:
            if not self._silent:
                log.warning("%s: squeue does not answer; waiting for results all the same", self.name)
            self._silent = True
            return
        self._silent = False
        for one in waiting:
            self.states[one] = states.get(one, GONE)
            if self.states[one].name in UNFINISHED:
                self._ended.pop(one, None)
            else:
                self._ended.setdefault(one, self._asked)
        self._tell({one: self.states[one] for one in waiting})

    def _tell(self, states: Mapping[str, JobState]) -> None:
        counts = Counter(map(str, states.values()))
        told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        if told != self._told:
            log.info("%s: %s: %s", self.name, ids_told(self.jobs), told)
            self._told = told


def has_result(job: Any) -> bool:
    """Return whether every process of a job has left its result."""
    folder = job.paths.folder
    with contextlib.suppress(OSError):
        folder.chmod(folder.stat().st_mode)  # a shared file system looks anew
    return all(job.task(index).paths.result_pickle.exists() for index in range(job.num_tasks))


def ids_told(jobs: Sequence[Any]) -> str:
    """Return the ids of jobs for people: "job 42", "jobs 42_0 to 42_7"."""
    first, last = jobs[0].job_id, jobs[-1].job_id
    return f"job {first}" if first == last else f"jobs {first} to {last}"


def last_line(path: Path) -> str:
    """Return the last line of a log that says something, "" if there is none."""
    if not path.is_file():
        return ""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip(" -\r")]
    return lines[-1][-300:] if lines else ""
