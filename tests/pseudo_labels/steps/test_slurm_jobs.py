"""What has become of jobs, with or without accounting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pseudo_labels.steps import slurm_jobs
from pseudo_labels.steps.slurm_jobs import JobState, Watch, job_states, last_line


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a shell script on a PATH of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/local/bin:/bin")

    def make(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    make("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    return make


def test_job_states__from_the_queue(programs: Any) -> None:
    programs("squeue", "printf '42_0|RUNNING|None\\n42_1|PENDING|Resources\\n43|CANCELLED|Resources\\n'")
    assert job_states(["42_0", "42_1", "42_2", "43"]) == {
        "42_0": JobState("RUNNING", "None"),
        "42_1": JobState("PENDING", "Resources"),
        "43": JobState("CANCELLED", "Resources"),
    }
    told = [str(state) for state in job_states(["42_0", "42_1", "43"]).values()]  # type: ignore[union-attr]
    assert told == ["running", "pending (Resources)", "cancelled"]


def test_job_states__of_jobs_that_the_queue_has_forgotten(programs: Any) -> None:
    programs("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert job_states(["42"]) == {}
    programs("sacct", "echo '42|CANCELLED by 1000'; echo '43|'")
    assert job_states(["42", "43"]) == {"42": JobState("CANCELLED")}


def test_job_states__no_answer_is_no_end(programs: Any) -> None:
    programs("squeue", "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    assert job_states(["42"]) is None


class Job:
    """Of submitit, as far as it is looked at."""

    num_tasks = 1

    def __init__(self, job_id: str, folder: Path) -> None:
        self.job_id, self.folder = job_id, folder
        self.paths = self
        self.result_pickle = folder / f"{job_id}_result.pkl"
        self.stderr = folder / f"{job_id}.err"

    def task(self, _: int) -> Job:
        return self


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(slurm_jobs.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("said", [{}, {"42": JobState("CANCELLED")}, {"42": JobState("NODE_FAIL")}])
def test_watch__a_job_that_left_the_queue_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], said: dict[str, JobState]
) -> None:
    """Without accounting the state stayed unknown, and its end was waited for without end."""
    monkeypatch.setattr(slurm_jobs, "job_states", lambda ids: said)
    watch, job = Watch([Job("42", tmp_path)], "step"), Job("42", tmp_path)
    assert not watch.done(job), "its result may still be on the way"
    clock[0] = slurm_jobs.GRACE_SECONDS + 1
    assert watch.done(job)
    assert watch.states["42"] == said.get("42", slurm_jobs.GONE)


def test_watch__queued_again_or_unheard_of_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    job = Job("42", tmp_path)
    watch = Watch([job], "step")
    answers: list[dict[str, JobState] | None] = [
        {"42": JobState("COMPLETED")},  # seen for a moment before it waits again
        {"42": JobState("PENDING", "BeginTime")},
        None,
        None,
        {"42": JobState("RUNNING")},
    ]
    monkeypatch.setattr(slurm_jobs, "job_states", lambda ids: answers.pop(0))
    while answers:
        clock[0] += 1000
        assert not watch.done(job)
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    job.result_pickle.touch()
    assert watch.done(job)


def test_last_line__of_a_log(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"first\n\xff slurmstepd: error: CANCELLED\n  ---\n\n")
    assert last_line(tmp_path / "log").endswith("slurmstepd: error: CANCELLED")
